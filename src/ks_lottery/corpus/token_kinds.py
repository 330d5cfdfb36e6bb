"""What kind of text a token is: its script, digits, punctuation, program code, a special token, or only part of a character."""

from __future__ import annotations

import ast
import re
import unicodedata
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

NO_TOKEN, SPECIAL, PART, SPACE, DIGITS, CODE, PUNCTUATION, OTHER = (
    "no token", "special", "part of a character", "white space", "digits", "code", "punctuation", "another script",
)  # fmt: skip

SCRIPTS = (
    "Latin", "Cyrillic", "Greek", "Han", "Kana", "Hangul", "Arabic", "Hebrew", "Devanagari", "Bengali", "Tamil", "Telugu",
    "Gujarati", "Kannada", "Malayalam", "Gurmukhi", "Sinhala", "Thai", "Lao", "Tibetan", "Myanmar", "Khmer", "Georgian",
    "Armenian", "Ethiopic",
)  # fmt: skip
"""Scripts that have a name here; Kana is Hiragana and Katakana."""

KINDS = (*SCRIPTS, OTHER, DIGITS, PUNCTUATION, CODE, SPACE, SPECIAL, PART, NO_TOKEN)
"""Every kind, in the order of tables."""

_RENAMED = {"CJK": "Han", "HIRAGANA": "Kana", "KATAKANA": "Kana", "KATAKANA-HIRAGANA": "Kana", "HENTAIGANA": "Kana"}
_PREFIXES = {"FULLWIDTH", "HALFWIDTH", "MODIFIER", "SUPERSCRIPT", "SUBSCRIPT", "LETTER", "SMALL"}

_CODE = re.compile(
    r"\w*_\w*[A-Za-z]\w*|\w*[A-Za-z]\w*_\w*|\w*[a-z][A-Z]\w*"  # snake_case, camelCase
    r"|[^\w\s]*[{}\[\]()<>=;\\|#$@&*+^~`/_][^\w\s]*",  # symbols with one of those of programs
    re.ASCII,
)
_SPECIAL = re.compile(r"<\|?[A-Za-z][\w -]*\|?>|\[[A-Z][A-Z_0-9]*\]|<\|[^|]*\|>", re.ASCII)
_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
_PATTERNS = {PART: _BYTE, SPECIAL: _SPECIAL, CODE: _CODE}


@cache
def script_of(letter: str) -> str:
    """Return the script of a letter or mark, by the first word of its name in Unicode: one of `SCRIPTS`, or `OTHER`.

    >>> [script_of(letter) for letter in "aжλ漢かハ한ع"]
    ['Latin', 'Cyrillic', 'Greek', 'Han', 'Kana', 'Kana', 'Hangul', 'Arabic']
    """
    words = unicodedata.name(letter, "").split()
    while words and words[0] in _PREFIXES:
        words = words[1:]
    name = _RENAMED.get(words[0], words[0].title()) if words else OTHER
    return name if name in SCRIPTS else OTHER


def kind_of_text(text: str) -> str:
    """Return the kind of a token's text: one of `KINDS`.

    A text with letters has the script of most of them, the first of equals; a name with an underscore or an inner capital, and
    symbols that programs use, are code.

    >>> [kind_of_text(text) for text in (" house", "дом", "42", ",", "});", "self_attn", " ", "<|im_end|>", "<0xE2>", "")]
    ['Latin', 'Cyrillic', 'digits', 'punctuation', 'code', 'code', 'white space', 'special', 'part of a character', 'no token']
    """
    bare = text.strip()
    if not bare:
        return SPACE if text else NO_TOKEN
    if bare.isascii() and bare.isalpha() and (bare.islower() or bare.isupper() or bare.istitle()):
        return "Latin"  # most tokens
    pattern = next((kind for kind, pattern in _PATTERNS.items() if pattern.fullmatch(bare)), None)
    if pattern is not None:
        return pattern
    scripts = [script_of(letter) for letter in bare if letter.isalpha()]
    if scripts:
        return scripts[0] if len(set(scripts)) == 1 else max(scripts, key=scripts.count)
    if any(character.isnumeric() for character in bare):
        return DIGITS
    return PUNCTUATION


def kinds_of_shown(shown: Iterable[str]) -> list[str]:
    """Return the kinds of tokens from their quoted texts, as a scan saves them.

    A token that is only part of a character was saved by the name of its bytes, which looks like letters; where the tokenizer
    is at hand, `ks_lottery.models.vocabulary` knows better.
    """
    return [kind_of_text(_text(one)) for one in shown]


def _text(shown: str) -> str:
    """Return the text that was quoted; a text that is not quoted stands for itself."""
    if len(shown) < 2 or shown[0] not in "'\"" or shown[-1] != shown[0]:
        return shown
    if "\\" not in shown:
        return shown[1:-1]
    try:
        return str(ast.literal_eval(shown))
    except (SyntaxError, ValueError):
        return shown[1:-1]
