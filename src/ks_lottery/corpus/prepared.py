"""The public calls that clean and split a text, wherever it comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ks_lottery.config.values import checks_names
from ks_lottery.corpus import selection
from ks_lottery.corpus.source import open_corpus

if TYPE_CHECKING:
    from pathlib import Path

    from ks_lottery.config.settings import TextSource
    from ks_lottery.corpus.corpus import Corpus
    from ks_lottery.corpus.selection import FilterReport, Split


@checks_names
def keep_useful(
    corpus: Corpus | TextSource | str | Path,
    *,
    min_words: int = 4,
    drop_placeholders: bool = True,
    drop_markup: bool = True,
) -> tuple[Corpus, FilterReport]:
    """Drop pairs that teach nothing: short translations, placeholders, markup, and sources that had already occurred.

    Of texts of one language, those are dropped that had already occurred, and no others.

    Parameters
    ----------
    corpus
        A corpus; or a file or a dataset, English to Catalan unless a `TextSource` says otherwise.
    min_words
        Fewest words on a side of a translation, 0 or more (4); languages written without spaces apart. Pairs whose own
        instruction is another one than to translate are kept.
    drop_placeholders
        Drop pairs with format placeholders such as ``%s`` or ``{name}``; on by default.
    drop_markup
        Drop pairs with tags, entities or web addresses; on by default.

    Returns
    -------
    corpus, report
        The pairs that are kept, in their order; how many were read, kept, and dropped for which reason.

    Raises
    ------
    UserError
        When the text cannot be read.
    """
    return selection.keep_useful(
        open_corpus(corpus), min_words=min_words, drop_placeholders=drop_placeholders, drop_markup=drop_markup
    )


@checks_names
def split(
    corpus: Corpus | TextSource | str | Path, *, calibration: float = 0.15, test: float = 0.15, seed: int = 0
) -> Split:
    """Split by a hash of the source sentence, salted with a seed: another seed is another random split of the same text.

    A sentence, and a copy of it that differs in case or white space, always lands in the same part, whatever else the
    text holds: text that is added later moves no sentence.

    Parameters
    ----------
    corpus
        A corpus; or a file or a dataset, English to Catalan unless a `TextSource` says otherwise.
    calibration, test
        Shares of the source sentences, each in (0, 1) (0.15); their sum is below 1. The rest is to train on.
    seed
        Seed of the split alone, 0 or more (0); the seed of a training has no part in it.

    Returns
    -------
    Split
        ``train``, ``calibration`` and ``test``, each a `Corpus` in the order of the text.

    Raises
    ------
    UserError
        When the text cannot be read, or a part is left empty.
    """
    return selection.split(open_corpus(corpus), calibration=calibration, test=test, seed=seed)
