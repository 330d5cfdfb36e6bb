"""Whether the two sides of a text are in the languages that it is said to be in: swapped and wrong columns are noticed."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ks_lottery.corpus.language_identity import identified, is_installed, label_of, title_of
from ks_lottery.corpus.languages import language_name
from ks_lottery.corpus.selection import is_translation
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ks_lottery.corpus.corpus import Corpus

FEWEST, MOST = 20, 200
"""Sentences that are looked at: with fewer nothing is said; of more, so many, spread evenly over the text."""

TOGETHER = 10
"""Sentences that are identified as one text: the language of a single short sentence is often identified wrongly."""

SHARE = 0.8
"""Share of such texts that have to be in one other language before it is said."""

NEAR = (
    frozenset({"da", "nb", "nn", "no"}),
    frozenset({"bs", "hr", "sr"}),
    frozenset({"id", "ms"}),
    frozenset({"xh", "zu"}),
)
"""Languages that the identifier takes for one another."""


def column_remark(corpus: Corpus) -> str | None:
    """Return one sentence where a side of a text is in another language than it is said to be.

    Pairs that are no translations are not looked at, since their languages are not said.

    Returns
    -------
    str or None
        None where nothing is noticed: also for fewer than 20 sentences, for a language that the identifier does not know, and
        where the package py3langid is not installed.
    """
    pairs = [pair for pair in corpus if corpus.monolingual or is_translation(pair)]
    if len(pairs) < FEWEST or not is_installed():
        return None
    chosen = [pairs[i * len(pairs) // MOST] for i in range(MOST)] if len(pairs) > MOST else pairs
    target = _other([pair.target for pair in chosen], corpus.target_language)
    if corpus.monolingual:
        return _wrong(corpus, "texts", target, corpus.target_language)
    source = _other([pair.source for pair in chosen], corpus.source_language)
    asked = _label(corpus.source_language), _label(corpus.target_language)
    if source is not None and target is not None and (source, target) == asked[::-1]:
        return (
            f"{corpus.origin}: source and target look swapped: the sources look like {title_of(source)} and the targets like "
            f"{title_of(target)}. Check the columns and the languages."
        )
    remarks = (
        _wrong(corpus, "sources", source, corpus.source_language),
        _wrong(corpus, "targets", target, corpus.target_language),
    )
    return " ".join(remark for remark in remarks if remark) or None


def _wrong(corpus: Corpus, what: str, found: str | None, language: str) -> str | None:
    if found is None:
        return None
    return (
        f"{corpus.origin}: the {what} look like {title_of(found)}, not like {language_name(language)}. Check the columns and "
        "the languages."
    )


def _label(language: str) -> str | None:
    try:
        return label_of(language)
    except UserError:  # one that the identifier does not know
        return None


def _other(sentences: Sequence[str], language: str) -> str | None:
    """Return the other language that nearly all of some sentences are in; None without one, or for an unknown `language`."""
    wanted = _label(language)
    if wanted is None:
        return None
    texts = [" ".join(sentences[i : i + TOGETHER]) for i in range(0, len(sentences), TOGETHER)]
    counts = Counter(code for text in texts if (code := identified(text)) is not None)
    found, count = counts.most_common(1)[0] if counts else (wanted, 0)
    if count < SHARE * len(texts) or found == wanted or any({found, wanted} <= near for near in NEAR):
        return None
    return found
