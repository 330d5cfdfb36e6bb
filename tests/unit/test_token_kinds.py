"""Kinds of token: scripts against the property Script of Unicode, as the package regex has it."""

from __future__ import annotations

import sys

import regex

from ks_lottery.corpus.token_kinds import KINDS, OTHER, SCRIPTS, kind_of_text, kinds_of_shown, script_of

PATTERNS = {"Kana": r"[\p{Script=Hiragana}\p{Script=Katakana}]"}


def test_scripts_are_those_of_unicode_for_nearly_every_letter():
    """Names in Unicode begin with the script, but for some rare letters, such as iteration marks."""
    letters = [chr(i) for i in range(sys.maxunicode + 1) if not 0xD800 <= i < 0xE000 and chr(i).isalpha()]
    named = {letter: script_of(letter) for letter in letters}
    differing = 0
    for script in SCRIPTS:
        pattern = regex.compile(PATTERNS.get(script, rf"\p{{Script={script}}}"))
        of = [letter for letter in letters if pattern.fullmatch(letter)]
        assert sum(named[letter] == script for letter in of) >= 0.85 * len(of), script
        differing += sum((named[letter] == script) != bool(pattern.fullmatch(letter)) for letter in letters)
    assert differing < 0.005 * len(letters)


def test_mixed_and_special_texts_have_one_kind_each():
    wanted = {
        " the": "Latin",
        "Ünïcode": "Latin",
        "мир a": "Cyrillic",
        "漢字かな": "Han",
        "٣٤": "digits",
        "1,000": "digits",
        "½": "digits",
        "camelCase": "code",
        "snake_case": "code",
        "->": "code",
        "();\n": "code",
        "...": "punctuation",
        "—": "punctuation",
        "\n\n": "white space",
        "<pad>": "special",
        "[UNK]": "special",
        "<0x0A>": "part of a character",
        "ᐃᓄ": OTHER,
        "": "no token",
    }
    assert {text: kind_of_text(text) for text in wanted} == wanted
    assert set(wanted.values()) <= set(KINDS)


def test_quoted_texts_are_unquoted_first():
    texts = [" дом", "it's", '"', "\n", "\u202e", "\\", ""]
    assert kinds_of_shown(map(repr, texts)) == [kind_of_text(text) for text in texts]
    assert kinds_of_shown(["'broken\\x", "'\\xzz'", "plain"]) == ["Latin", "Latin", "Latin"]
