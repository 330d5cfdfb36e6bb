"""Share of hypotheses that are in the target language, by the language identifier py3langid, offline."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache
from importlib import metadata, util
from typing import TYPE_CHECKING, Any

from ks_lottery.corpus.languages import best_match, language_name
from ks_lottery.errors import UserError
from ks_lottery.stats.intervals import clopper_pearson

if TYPE_CHECKING:
    from collections.abc import Sequence

PACKAGE = "py3langid"
"""The language identifier; the extra ``language`` of ks-lottery installs it."""


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
    identifier = _identifier()
    target = _label(identifier.labels, language)
    counts = Counter(_identify(identifier, text) for text in hypotheses if text.strip())
    undecided = counts.pop(None, 0)
    judged, right = sum(counts.values()), counts[target]
    others = {code: count for code, count in counts.items() if code is not None and code != target}
    other = min(others, key=lambda code: (-others[code], code), default=None)
    return LanguageCheck(
        language=target,
        name=_name(target),
        outputs=len(hypotheses),
        empty=len(hypotheses) - judged - undecided,
        undecided=undecided,
        right=right,
        share=right / judged if judged else None,
        interval=clopper_pearson(right, judged, confidence),
        confidence=confidence,
        other=other,
        other_name=None if other is None else _name(other),
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
    _label(_identifier().labels, language)


@cache
def _identifier() -> Any:
    if util.find_spec(PACKAGE) is None:
        raise UserError(f"the language check needs {PACKAGE}: pip install 'ks-lottery[language]'")
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE)


def _label(labels: Sequence[str], language: str) -> str:
    language_name(language)  # an unknown code is another error
    label = best_match(labels, language)
    if label is None:
        raise UserError(f"{PACKAGE} does not know {language_name(language)}: leave the language check out")
    return label


def _identify(identifier: Any, text: str) -> str | None:
    from py3langid.langid import RAW_FLOOR

    code, score = identifier.classify(text)
    return None if score <= RAW_FLOOR else str(code)  # without a feature it returns its first language


def _name(code: str) -> str:
    try:
        return language_name(code)
    except UserError:
        return code
