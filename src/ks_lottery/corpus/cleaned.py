"""The text that a command or a library call is given by name: read, cleaned as a run does, and what is said about it."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from ks_lottery.config.groups import CleaningOptions, TextSource
from ks_lottery.corpus.column_languages import column_remark
from ks_lottery.corpus.corpus import Corpus
from ks_lottery.corpus.selection import keep_useful
from ks_lottery.corpus.source import read_text
from ks_lottery.errors import TextWarning, UserError

if TYPE_CHECKING:
    from pathlib import Path


def cleaned(corpus: Corpus, options: CleaningOptions) -> tuple[Corpus, str | None]:
    """Clean a text as options say.

    Returns
    -------
    corpus, sentence
        The pairs that are kept; what was dropped, in one sentence, or None where the text is not cleaned.

    Raises
    ------
    UserError
        When nothing is left.
    """
    if not options.clean:
        return corpus, None
    useful, report = keep_useful(
        corpus,
        min_words=options.min_words,
        drop_placeholders=options.drop_placeholders,
        drop_markup=options.drop_markup,
    )
    if not len(useful):
        raise UserError(f"{corpus.origin}: {report.sentence()}: nothing is left; `clean=False` keeps all of it")
    return useful, report.sentence()


def cleaned_text(source: TextSource) -> tuple[Corpus, list[str]]:
    """Read and clean the text that settings name.

    Returns
    -------
    corpus, sentences
        The pairs that are kept; what was dropped, and a language that a side is not in.

    Raises
    ------
    UserError
        When the text cannot be read, or nothing is left of it.
    """
    corpus = read_text(source)
    useful, dropped = cleaned(corpus, source)
    return useful, [sentence for sentence in (dropped, column_remark(useful)) if sentence is not None]


def open_cleaned(text: Corpus | TextSource | str | Path) -> Corpus:
    """Return a corpus as it is; or read and clean the text of a name, English to Catalan unless a `TextSource` says otherwise.

    Raises
    ------
    UserError
        When the text cannot be read, or nothing is left of it.

    Warns
    -----
    TextWarning
        When a side of the text is in another language than it is said to be.
    """
    if isinstance(text, Corpus):
        return text
    source = text if isinstance(text, TextSource) else TextSource(path=str(text))
    corpus, _ = cleaned(read_text(source), source)
    remark = column_remark(corpus)
    if remark is not None:
        warnings.warn(TextWarning(remark), stacklevel=3)
    return corpus
