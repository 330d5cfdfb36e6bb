"""Share of hypotheses that are in the target language, by the language identifier py3langid, offline."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING

from ks_lottery.corpus.language_identity import PACKAGE, identified, label_of, title_of
from ks_lottery.stats.intervals import clopper_pearson

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, kw_only=True)
class LanguageCheck:
    """How many outputs are in the target language.

    Parameters
    ----------
    language, name
        The package's code of the target language, without a variety (``pt`` for ``pt_BR``), and its English name.
    outputs
        Number of hypotheses.
    empty
        Number of hypotheses with only white space.
    undecided
        Number of hypotheses without a feature that the package knows, such as a bare number.
    right, share
        Number of the other hypotheses that are in the language, and their share; None where there are none.
    interval, confidence
        Clopper-Pearson interval of the share, for independent outputs, and its confidence.
    other, other_name, other_count
        The most common other language, the first by code in a tie; None, None and 0 without one.
    package, version
        The language identifier.
    """

    language: str
    name: str
    outputs: int
    empty: int
    undecided: int
    right: int
    share: float | None
    interval: tuple[float, float]
    confidence: float
    other: str | None
    other_name: str | None
    other_count: int
    package: str
    version: str


def language_share(hypotheses: Sequence[str], language: str, *, confidence: float = 0.95) -> LanguageCheck:
    """Identify the language of each hypothesis, and count those in `language`.

    Parameters
    ----------
    language
        Code or English name, as `corpus.languages` takes it.
    confidence
        Of the interval, in (0, 1).

    Raises
    ------
    UserError
        When py3langid is not installed, or does not know the language.

    Notes
    -----
    All languages of the package are candidates. Even correct translations do not get a share of 1, since the language of
    short sentences is often identified wrongly (docs/log.md): compare with the share of the references.
    """
    target = label_of(language)
    counts = Counter(identified(text) for text in hypotheses if text.strip())
    undecided = counts.pop(None, 0)
    judged, right = sum(counts.values()), counts[target]
    others = {code: count for code, count in counts.items() if code is not None and code != target}
    other = min(others, key=lambda code: (-others[code], code), default=None)
    return LanguageCheck(
        language=target,
        name=title_of(target),
        outputs=len(hypotheses),
        empty=len(hypotheses) - judged - undecided,
        undecided=undecided,
        right=right,
        share=right / judged if judged else None,
        interval=clopper_pearson(right, judged, confidence),
        confidence=confidence,
        other=other,
        other_name=None if other is None else title_of(other),
        other_count=0 if other is None else others[other],
        package=PACKAGE,
        version=metadata.version(PACKAGE),
    )


def check_language(language: str) -> None:
    """Refuse a language check that cannot be made, before anything is translated for it.

    Raises
    ------
    UserError
        When py3langid is not installed, or does not know the language.
    """
    label_of(language)
