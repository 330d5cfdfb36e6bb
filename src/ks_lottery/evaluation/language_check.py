"""Share of hypotheses that are in the language they should be in, by the language identifier py3langid, offline.

Must never count an output that has no words for or against the system.
"""

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
"""What tells the languages: the extra ``language`` of this package installs it."""


@dataclass(frozen=True)
class LanguageCheck:
    """How many outputs are in the target language.

    Parameters
    ----------
    language, name
        The package's code of the target language, which knows no varieties (``pt`` for ``pt_BR``), and its English name.
    outputs
        Number of hypotheses.
    empty
        Those with nothing but white space.
    undecided
        Those in which the package finds nothing to tell by, such as a bare number.
    right, share
        Those of the rest that are in the language, and their share of the rest; None where there is no rest.
    interval, confidence
        Clopper-Pearson interval of the share, outputs taken as independent, and its confidence.
    other, other_name, other_count
        The most common other language among the rest, the first by code where several are; None, None and 0 without one.
    package, version
        What told the languages.
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
    """Tell the language of each hypothesis, and count those in `language`.

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
    All of the package's languages are rivals. A system without mistakes does not get a share of 1, since short sentences are
    often told wrongly (docs/log.md): compare with the share of the references.
    """
    identifier = _identifier()
    wanted = _label(identifier.labels, language)
    found = Counter(_tell(identifier, text) for text in hypotheses if text.strip())
    undecided = found.pop(None, 0)
    judged, right = sum(found.values()), found[wanted]
    others = {code: count for code, count in found.items() if code is not None and code != wanted}
    other = min(others, key=lambda code: (-others[code], code), default=None)
    return LanguageCheck(
        language=wanted,
        name=_name(wanted),
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


@cache
def _identifier() -> Any:
    if util.find_spec(PACKAGE) is None:
        raise UserError(f"the language check needs {PACKAGE}: pip install 'ks-lottery[language]'")
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE)


def _label(labels: Sequence[str], language: str) -> str:
    language_name(language)  # a code that does not exist is an error of its own
    label = best_match(labels, language)
    if label is None:
        raise UserError(f"{PACKAGE} does not know {language_name(language)}: leave the language check out")
    return label


def _tell(identifier: Any, text: str) -> str | None:
    from py3langid.langid import RAW_FLOOR

    code, score = identifier.classify(text)
    return None if score <= RAW_FLOOR else str(code)  # with no feature at all it names the first language it has


def _name(code: str) -> str:
    try:
        return language_name(code)
    except UserError:
        return code
