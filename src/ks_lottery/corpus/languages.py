"""Languages: their English names, for the instruction that the model reads, and whether two codes mean the same one."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from ks_lottery.config.values import did_you_mean
from ks_lottery.errors import UserError, shortened

if TYPE_CHECKING:
    from collections.abc import Iterable


MORE_NAMES = {
    "acm": "Mesopotamian Arabic", "acq": "Ta'izzi-Adeni Arabic", "ajp": "South Levantine Arabic",
    "apc": "North Levantine Arabic", "azb": "South Azerbaijani", "cjk": "Chokwe", "fuv": "Nigerian Fulfulde",
    "hne": "Chhattisgarhi", "kbp": "Kabiy\u00e8", "pbt": "Southern Pashto", "quy": "Ayacucho Quechua", "taq": "Tamasheq",
    "mnw": "Mon", "nod": "Northern Thai", "rki": "Rakhine", "sou": "Southern Thai", "tts": "Northeastern Thai",
}  # fmt: skip
"""Languages that Babel does not name, by their code in ISO 639-3: those of FLORES-200, and more that are written without
spaces."""

UNSPACED = frozenset({
    "zh", "yue", "wuu", "gan", "hak", "hsn", "lzh", "nan", "cdo", "cjy", "mnp", "ja", "th", "nod", "sou", "tts", "lo", "km",
    "my", "mnw", "rki", "shn", "bo", "dz",
})  # fmt: skip
"""Languages written without spaces between words."""

CHINESE = frozenset({"zh", "yue", "wuu", "gan", "hak", "hsn", "lzh", "nan", "cdo", "cjy", "mnp"})
"""Languages written in Chinese characters."""

ROMANIZED = frozenset({"latn", "cyrl"})
"""Scripts that put spaces between words, whatever the language."""


@cache
def _names() -> dict[str, str]:
    from babel import Locale

    return {**MORE_NAMES, **{str(key): str(value) for key, value in Locale("en").languages.items()}}


@cache
def _places() -> dict[str, str]:
    from babel import Locale

    english = Locale("en")
    return {str(key): str(value) for key, value in {**english.territories, **english.scripts}.items()}


@cache
def _by_name() -> tuple[dict[str, str], dict[str, str]]:
    """Return the code of each English name of a language, and of a script or country, in small letters."""
    return tuple({name.lower(): code for code, name in known.items()} for known in (_names(), _places()))  # pyright: ignore[reportReturnType]


def _code(language: str) -> str:
    """Return the code of a name such as ``Chinese (Simplified)``, without the encoding of a locale; a code as it is."""
    languages, places = _by_name()
    language = re.split(r"[.@]", language.strip(), maxsplit=1)[0]
    found = re.fullmatch(r"([^()]+) \(([^()]+)\)", language)
    if found is None:
        return languages.get(language.lower(), language)
    first, rest = languages.get(found[1].lower(), ""), [places.get(part.lower(), "") for part in found[2].split(", ")]
    return "_".join([first, *rest]) if first and all(rest) else language


@cache
def _aliases() -> dict[str, str]:
    """Return codes of three letters and old codes, each with the one that is used here (cat: ca)."""
    from babel.core import get_global

    return {str(old): str(new) for old, new in get_global("language_aliases").items()}


def language_name(code: str) -> str:
    """Return the English name of a language.

    Parameters
    ----------
    code
        ``ca``, ``cat``, ``pt_BR``, ``pt-BR``, ``sr_Latn``, or an English name such as ``Catalan`` or ``Portuguese (Brazil)``,
        which is returned as it is.

    Raises
    ------
    UserError
        When it is not known.

    Examples
    --------
    >>> language_name("ca"), language_name("pt_BR"), language_name("Catalan")
    ('Catalan', 'Portuguese (Brazil)', 'Catalan')
    """
    names = _names()
    if code in names.values():
        return code
    known = _code(code) if re.search(r"[(.@]", code) else code
    if "(" in code and known != code:
        return code
    first, *rest = known.replace("-", "_").split("_")
    first = _aliases().get(first.lower(), first.lower())
    more = [_places().get(part.upper()) or _places().get(part.title(), "") for part in rest]
    if first in names and all(more):
        return names[first] + (f" ({', '.join(more)})" if more else "")
    near = did_you_mean(code, [*names, *names.values()])
    raise UserError(f"language {shortened(code)} is not known: give a code such as ca or a name such as Catalan{near}")


@cache
def _subtags(code: str) -> tuple[str, ...]:
    """Return the parts of a code, or of a name's code, in one form: language first, then script and region."""
    first, *rest = re.split(r"[-_]", _code(code).lower())
    return *_aliases().get(first, first).lower().split("_"), *rest  # an old code may be a variant: prs is fa_AF


def is_spaced(language: str) -> bool:
    """Say whether a language writes spaces between its words.

    Parameters
    ----------
    language
        Code or English name, as for `language_name`.

    Examples
    --------
    >>> [is_spaced(language) for language in ("ca", "ja", "jpn_Jpan", "Japanese", "zho_Hans", "zh-Latn-pinyin")]
    [True, False, False, False, False, True]
    """
    first, *rest = _subtags(language)
    return first not in UNSPACED or bool(ROMANIZED & set(rest))


def is_chinese(language: str) -> bool:
    """Say whether a language, by code or English name, is written in Chinese characters.

    >>> [is_chinese(language) for language in ("zh_TW", "yue_Hant", "Chinese", "ja", "zh_Latn")]
    [True, True, True, False, False]
    """
    return _subtags(language)[0] in CHINESE and not is_spaced(language)


def language_code(language: str) -> str | None:
    """Return the code of a language in two or three letters, without script and region; None where it is not known.

    >>> [language_code(language) for language in ("eng_Latn", "pt-BR", "Catalan", "Klingon of the north")]
    ['en', 'pt', 'ca', None]
    """
    code = _subtags(language)[0]
    return code if re.fullmatch("[a-z]{2,3}", code) and code in _names() else None


def same_language(one: str, other: str) -> bool:
    """Say whether two codes or names are of one language, whatever the variant.

    >>> same_language("jpn_Jpan", "ja"), same_language("pt_BR", "Portuguese"), same_language("ja", "zh")
    (True, True, False)
    """
    return _subtags(one)[0] == _subtags(other)[0]


def language_rank(found: str, wanted: str) -> int | None:
    """Say how well the code `found` in a file serves for the language that is `wanted`.

    Returns
    -------
    int or None
        0 for the same language, 1 for a variant of it (en-US for en), 2 for the language that `wanted` is a variant of
        (pt for pt_BR), None for another one (pt-PT for pt_BR).

    Examples
    --------
    >>> [language_rank(code, "pt_BR") for code in ("PT-br", "pt", "por", "pt-PT", "Portuguese", "es")]
    [0, 2, 2, None, 2, None]
    """
    own, other = _subtags(found), _subtags(wanted)
    if own[0] != other[0]:
        return None
    parts, asked = set(own[1:]), set(other[1:])
    if parts == asked:
        return 0
    return 1 if asked < parts else 2 if parts < asked else None


def best_match(found: Iterable[str], wanted: str) -> str | None:
    """Return the code in `found` that serves best for `wanted`, the first of several equals, or None."""
    ranked = [(rank, code) for code in found if (rank := language_rank(code, wanted)) is not None]
    return min(ranked, key=lambda entry: entry[0])[1] if ranked else None
