"""Text that models are measured on: its pairs as the model sees them, none of them cut.

Must never leave out a sentence unless the user set a limit, and then counts it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ks_lottery.corpus.batches import encode
from ks_lottery.corpus.readers import read_corpus
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from ks_lottery.corpus.batches import Example
    from ks_lottery.corpus.corpus import Corpus
    from ks_lottery.models.load import LoadedModel


@dataclass(frozen=True)
class MeasuredText:
    """Pairs and their examples, in one order.

    Parameters
    ----------
    overlong
        Pairs that were left out as longer than the limit.
    """

    corpus: Corpus
    examples: Sequence[Example]
    overlong: int


def measured_text(
    loaded: LoadedModel, corpus: Corpus, *, template: str = "alpaca", max_tokens: int | None = None
) -> MeasuredText:
    """Tokenize a text to measure on.

    Parameters
    ----------
    max_tokens
        Longest example, prompt and reference together; longer ones are left out and counted. Without it a text with an
        example that is longer than the model's context is refused.

    Raises
    ------
    UserError
        When an example does not fit into the model's context, or none is left.
    """
    examples, kept = encode(loaded.tokenizer, corpus, template=template, max_tokens=max_tokens or sys.maxsize)
    context = loaded.checkpoint.context
    over = [] if context is None else [i for i, e in zip(kept, examples, strict=True) if len(e) > context]
    if over:
        raise UserError(
            f"{corpus.origin}: {len(over):,} of {len(corpus):,} sentences are longer with prompt and reference than the "
            f"{context:,} tokens that {loaded.checkpoint.name} looks at, the first is pair {over[0] + 1}: split them, or leave "
            f"out longer ones with --max-tokens {context}"
        )
    if not examples:
        raise UserError(f"no example of {corpus.origin} fits into {max_tokens} tokens: raise --max-tokens")
    pairs = tuple(corpus.pairs[i] for i in kept)
    return MeasuredText(replace(corpus, pairs=pairs), examples, len(corpus) - len(kept))


def read_data(arguments: argparse.Namespace) -> Corpus:
    """Read the text that the flags of `add_data_flags` name."""
    corpus = read_corpus(
        arguments.data,
        target=arguments.target,
        format=arguments.format,
        source_language=arguments.source_language,
        target_language=arguments.target_language,
        source_column=arguments.source_column,
        target_column=arguments.target_column,
        dataset_config=arguments.dataset_config,
        dataset_split=arguments.dataset_split,
        streaming=arguments.dataset_streaming,
        limit=arguments.limit,
    )
    return corpus if arguments.instruction is None else corpus.with_instruction(arguments.instruction)
