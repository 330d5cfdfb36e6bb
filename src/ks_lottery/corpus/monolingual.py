"""Sentences of one language, and how often each token occurs in them: what frequency tuning ranks by."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ks_lottery.corpus.lines import numbered_lines
from ks_lottery.corpus.packed import ending_of
from ks_lottery.corpus.readers import ENDINGS, LONGEST_SENTENCE
from ks_lottery.corpus.source import read_text
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from transformers import PreTrainedTokenizerBase

    from ks_lottery.config.groups import TextSource


def read_sentences(source: TextSource, *, side: Literal["source", "target"] = "target") -> list[str]:
    """Return one side of parallel text, or the lines of a plain text with one sentence a line.

    A text is parallel where its ending, `format` or `target` says so, or it is the embedded one. ``lines`` without `target` is
    a plain text.

    Parameters
    ----------
    side
        Side of a parallel text: ``target`` (the default) or ``source``.

    Raises
    ------
    UserError
        When the text cannot be read or is empty.
    """
    if not is_plain(source):
        corpus = read_text(source)
        sentences = [getattr(pair, "target" if corpus.monolingual else side) for pair in corpus]
        return [sentence for sentence in sentences if sentence]
    path = Path(source.path).expanduser()
    sentences: list[str] = []
    for number, line in islice(((n, text) for n, text in numbered_lines(path) if text.strip()), source.limit):
        if len(line) > LONGEST_SENTENCE:
            raise UserError(
                f"{path}, line {number} has {len(line):,} characters, more than {LONGEST_SENTENCE:,}: write one sentence a line"
            )
        sentences.append(line)
    if not sentences:
        raise UserError(f"{path} holds no sentence")
    return sentences


def is_plain(source: TextSource) -> bool:
    """Say whether a file is read here, one sentence a line, and not by `read_text`: see `read_sentences`."""
    path = Path(source.path).expanduser()
    named = source.path.startswith("asset:") or ending_of(path) in ENDINGS or source.format != "auto"
    return source.target is None and (not named or source.format == "lines")


def token_counts(tokenizer: PreTrainedTokenizerBase, sentences: Iterable[str]) -> Counter[int]:
    """Count each token in sentences, without special tokens."""
    counts: Counter[int] = Counter()
    for sentence in sentences:
        counts.update(tokenizer(sentence, add_special_tokens=False)["input_ids"])
    return counts
