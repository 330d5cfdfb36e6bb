"""The sentence of an error: on one line, with nothing that acts on a terminal, and no longer than can be read."""

from __future__ import annotations

import sys
import unicodedata

import pytest

from ks_lottery import UserError
from ks_lottery.errors import escaped, shortened


def test_every_character_that_acts_is_escaped_and_no_other():
    """By Unicode's own categories, and its list of bidirectional controls that embed, override or isolate."""
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        acts = unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} or unicodedata.bidirectional(character) in {
            "LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI",
        }  # fmt: skip
        assert (escaped(character) != character) == acts, hex(code)
        if acts:
            assert escaped(character).encode("ascii").decode("unicode_escape") == character


@pytest.mark.parametrize("text", ["می\u200cشود", "क्\u200dष", "👩\u200d🚀", "a\u00a0b", "e\u0301", "汉字"])
def test_text_of_any_script_is_as_it_was(text):
    assert escaped(text) == text


@pytest.mark.parametrize("text", ["\x1b[31mX", "a\x07b", "\x9b2J", "\u202ex", "\u2066x", "\x7f", "\ud800"])
def test_an_error_never_acts_on_a_terminal(text):
    shown = str(UserError(f"{text}: is\nnot\t there"))
    assert shown.isprintable()
    assert shown.endswith(": is not there")


@pytest.mark.parametrize(
    "make",
    [lambda: "x" * 10**6, lambda: b"x" * 10**6, lambda: 10**10_000, lambda: -(10**10_000), lambda: [10**10_000],
     lambda: ["x" * 10**6], lambda: "\x1b"],
)  # fmt: skip
def test_a_value_is_shown_in_few_characters(make):
    assert len(shortened(make())) < 130
    assert shortened(make()).isprintable()


@pytest.mark.parametrize("value", ["a", 1, 0.5, None, True, [1, "b"], "x" * 100])
def test_a_short_value_is_shown_as_it_is(value):
    assert shortened(value) == repr(value)
