"""The language of a text, by the identifier py3langid, offline."""

from __future__ import annotations

from functools import cache
from importlib import util
from typing import Any

from ks_lottery.corpus.languages import best_match, language_name
from ks_lottery.errors import UserError

PACKAGE = "py3langid"
"""The language identifier; the extra ``language`` of ks-lottery installs it."""


def is_installed() -> bool:
    """Say whether the identifier is there."""
    return util.find_spec(PACKAGE) is not None


@cache
def identifier() -> Any:
    """Return the identifier, with every language that it knows.

    Raises
    ------
    UserError
        When it is not installed.
    """
    if not is_installed():
        raise UserError(f"the language check needs {PACKAGE}: pip install 'ks-lottery[language]'")
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    try:
        return LanguageIdentifier.from_model_file(MODEL_FILE)
    except OSError as error:
        raise UserError(
            f"py3langid cannot write its model into the temporary folder ({error.strerror}): make room there, or uninstall it"
        ) from error


def label_of(language: str) -> str:
    """Return the identifier's code of a language.

    Raises
    ------
    UserError
        When the language, or the identifier's code of it, is not known.
    """
    labels = identifier().labels
    language_name(language)  # an unknown code is another error
    label = best_match(labels, language)
    if label is None:
        raise UserError(f"{PACKAGE} does not know {language_name(language)}: leave the language check out")
    return label


def identified(text: str) -> str | None:
    """Return the identifier's code of the language of a text; None without a feature that it knows."""
    from py3langid.langid import RAW_FLOOR

    code, score = identifier().classify(text)
    return None if score <= RAW_FLOOR else str(code)  # without a feature it returns its first language


def title_of(code: str) -> str:
    """Return the English name of a code of the identifier, or the code where it has none."""
    try:
        return language_name(code)
    except UserError:
        return code
