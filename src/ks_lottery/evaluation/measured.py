"""The text that a model is measured on: whole pairs, in tokens; pairs beyond the user's limit are left out and counted."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ks_lottery.corpus.batches import encode
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ks_lottery.corpus.batches import Example
    from ks_lottery.corpus.corpus import Corpus
    from ks_lottery.models.tokenized import Tokenized


@dataclass(frozen=True)
class MeasuredText:
    """Pairs and their examples, in the order of the text.

    Parameters
    ----------
    overlong
        Number of pairs that were left out as longer than the limit.
    """

    corpus: Corpus
    examples: Sequence[Example]
    overlong: int


def measured_text(
    tokenized: Tokenized,
    corpus: Corpus,
    *,
    template: str = "alpaca",
    max_tokens: int | None = None,
    spans: bool = False,
) -> MeasuredText:
    """Tokenize a text to measure on.

    Parameters
    ----------
    max_tokens
        Longest example, prompt and reference together; longer ones are left out and counted. Without it a text with an
        example that is longer than the model's context is refused.
    spans
        Say of each example which of its tokens are of the source sentence; off by default.

    Raises
    ------
    UserError
        When an example does not fit into the model's context, or no example fits into the limit.
    """
    limit, rows = max_tokens or sys.maxsize, tokenized.checkpoint.vocabulary
    examples, places = encode(tokenized.tokenizer, corpus, template=template, max_tokens=limit, rows=rows, spans=spans)
    context = tokenized.checkpoint.context
    over = [] if context is None else [i for i, e in zip(places, examples, strict=True) if len(e) > context]
    if over:
        raise UserError(
            f"{corpus.origin}: {len(over):,} of {len(corpus):,} sentences, with prompt and reference, are longer than the "
            f"context of {tokenized.checkpoint.name}, {context:,} tokens; the first is pair {over[0] + 1}. Split them, or "
            f"leave out longer ones by `max_tokens={context}`"
        )
    if not examples:
        raise UserError(f"no example of {corpus.origin} fits into {max_tokens} tokens: raise `max_tokens`")
    pairs = tuple(corpus.pairs[i] for i in places)
    return MeasuredText(replace(corpus, pairs=pairs), examples, len(corpus) - len(places))
