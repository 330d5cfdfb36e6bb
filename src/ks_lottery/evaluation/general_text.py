"""General text, on which forgetting is measured: plain sentences, in tokens, and what a patch leaves unchanged in them."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ks_lottery.checkpoint.grown import GrownCheckpoint
from ks_lottery.checkpoint.patch import RowPatch
from ks_lottery.config.groups import TextSource
from ks_lottery.corpus.batches import Example, check_rows
from ks_lottery.corpus.corpus import Corpus
from ks_lottery.corpus.lines import is_encodable
from ks_lottery.corpus.monolingual import read_sentences
from ks_lottery.corpus.prompt_form import PromptForm
from ks_lottery.corpus.readers import LONGEST_SENTENCE
from ks_lottery.errors import UserError
from ks_lottery.evaluation.forgetting import Forgetting, paired_differences
from ks_lottery.evaluation.measured import MeasuredText
from ks_lottery.evaluation.predictions import COLUMNS
from ks_lottery.store.manifest import digest_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from ks_lottery.evaluation.predictions import Predictions
    from ks_lottery.models.tokenized import Tokenized


@dataclass(frozen=True, kw_only=True)
class GeneralText:
    """Sentences in tokens.

    Parameters
    ----------
    examples
        Of each sentence the first token as the prompt, and all others as what is predicted.
    short, overlong
        Numbers of sentences that were left out: of fewer than two tokens, and longer than the limit.
    fingerprint
        SHA-256 of the sentences.
    places
        Of each example, which of the sentences it is.
    """

    examples: Sequence[Example]
    short: int
    overlong: int
    fingerprint: str
    places: Sequence[int]


def general_sentences(text: Corpus | TextSource | str | Path | Sequence[str]) -> list[str]:
    """Return plain sentences: those given, the lines of a file, or the source side of parallel text.

    Parameters
    ----------
    text
        Sentences, a corpus, or a file or dataset that `ks_lottery.corpus.monolingual.read_sentences` reads.

    Raises
    ------
    UserError
        When the text cannot be read or is empty, or a sentence is no text in UTF-8 or is too long.
    """
    if isinstance(text, Corpus):
        sentences = [
            pair.target if text.monolingual else pair.source for pair in text if text.monolingual or pair.source
        ]
    elif isinstance(text, TextSource | str | Path):
        source = text if isinstance(text, TextSource) else TextSource(path=str(text))
        sentences = read_sentences(source, side="source")
    else:
        sentences = list(text)
    for number, sentence in enumerate(sentences, start=1):
        if not isinstance(sentence, str) or not is_encodable(sentence):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise UserError(f"`general`: sentence {number} is not text in UTF-8: give sentences in UTF-8")
        if len(sentence) > LONGEST_SENTENCE:
            raise UserError(
                f"`general`: sentence {number} has {len(sentence):,} characters, more than {LONGEST_SENTENCE:,}: split it"
            )
    if not sentences:
        raise UserError("`general` holds no sentence: give one or more, or leave it out")
    return sentences


def general_text(
    loaded: Tokenized, sentences: Sequence[str], *, max_tokens: int | None = None, name: str = "`general`"
) -> GeneralText:
    """Tokenize general text as the model expects a text to begin, without a prompt.

    Parameters
    ----------
    max_tokens
        Longest sentence in tokens; longer ones are left out and counted. Without it a text with a sentence that is longer than
        the model's context is refused.
    name
        What errors call the text.

    Raises
    ------
    UserError
        When a sentence does not fit into the model's context, has a token without a row, or no sentence can be measured.
    """
    ids = PromptForm(loaded.tokenizer, "plain").texts(sentences)
    limit, context = max_tokens or sys.maxsize, loaded.checkpoint.context
    check_rows(ids, loaded.checkpoint.vocabulary, name)
    own = set(loaded.checkpoint.added.ids) if isinstance(loaded.checkpoint, GrownCheckpoint) else set[int]()
    if any(not own.isdisjoint(tokens) for tokens in ids):
        raise UserError(
            f"{name} holds tokens that the patch adds, and the original model, which it is compared with, has none of them: "
            "give another text, or leave it out"
        )
    long = [number for number, tokens in enumerate(ids, start=1) if len(tokens) > limit]
    over = [n for n, tokens in enumerate(ids, start=1) if context is not None and context < len(tokens) <= limit]
    if over:
        raise UserError(
            f"{name}: {len(over):,} of {len(sentences):,} sentences are longer than the context of "
            f"{loaded.checkpoint.name}, {context:,} tokens; the first is sentence {over[0]}. Split them, or leave out longer "
            f"ones by `max_tokens={context}`"
        )
    places = [place for place, tokens in enumerate(ids) if 1 < len(tokens) <= limit]
    examples = [Example(ids[place][:1], ids[place][1:]) for place in places]
    if not examples:
        raise UserError(
            f"{name} holds no sentence of two tokens or more that fits into `max_tokens`: give longer sentences, or raise it"
        )
    return GeneralText(
        examples=examples, short=len(ids) - len(long) - len(examples), overlong=len(long), places=places,
        fingerprint=digest_json(list(sentences)),
    )  # fmt: skip


def measured_lines(tokenized: Tokenized, corpus: Corpus, *, max_tokens: int | None = None) -> MeasuredText:
    """Tokenize the source side of a corpus as plain text to measure on: every token but the first of a line is predicted.

    Lines of one token, and those longer than `max_tokens`, are left out; the latter are counted. Parameters and errors are
    those of `general_text`.
    """
    text = general_text(tokenized, [pair.source for pair in corpus], max_tokens=max_tokens, name=corpus.origin)
    pairs = tuple(corpus.pairs[place] for place in text.places)
    return MeasuredText(replace(corpus, pairs=pairs), text.examples, text.overlong)


def untouched(examples: Sequence[Example], product: RowPatch | Path | None) -> list[bool] | None:
    """Say of each sentence whether it holds no token whose row was trained.

    The model looks up no trained row in it, and so computes the same as before, bit for bit. A trained row of the output side
    takes part in the softmax of every position: then no sentence is unchanged.

    Returns
    -------
    list of bool, or None
        One a sentence; None for an adapter, whose weights act on every sentence.
    """
    if product is None:
        return [True] * len(examples)
    if not isinstance(product, RowPatch):
        return None
    if product.side != "input" and len(product):
        return [False] * len(examples)
    trained = {int(row) for row in product.ids}
    return [trained.isdisjoint(example.sequence) for example in examples]


def forgetting(
    text: GeneralText,
    tuned: Predictions,
    original: Predictions,
    product: RowPatch | Path | None,
    *,
    bootstrap: Mapping[str, Any],
) -> Forgetting:
    """Compare a tuned model with the original on general text.

    Parameters
    ----------
    tuned, original
        Predictions of ``text.examples``, with and without what tuning made.
    product
        What tuning made; the folder of an adapter.
    bootstrap
        ``confidence``, ``resamples`` (0 for no intervals) and ``seed``.

    Raises
    ------
    UserError
        When the two are not of the same positions.
    """
    figures = paired_differences(tuned, original, **bootstrap)
    unchanged, identical = untouched(text.examples, product), None
    if unchanged is not None:
        differ = np.zeros(len(original), dtype=np.bool_)
        for name in COLUMNS:
            differ |= getattr(tuned, name) != getattr(original, name)
        differing = np.bincount(original.sentence, weights=differ, minlength=len(text.examples)) > 0
        identical = int((np.array(unchanged) & ~differing).sum())
    return Forgetting(
        sentences=len(text.examples), positions=len(original), short=text.short, overlong=text.overlong,
        untouched=None if unchanged is None else sum(unchanged), identical=identical, text=text.fingerprint, **figures,
    )  # fmt: skip
