"""Random YAML and random flags for every command: settings or one UserError, in bounded time."""

from __future__ import annotations

import contextlib
import io
import math
import tempfile
import time
from pathlib import Path

import pytest
import yaml
from amount import examples
from hypothesis import given
from hypothesis import strategies as st

from ks_lottery.cli.commands import COMMANDS
from ks_lottery.cli.options import build_parser, read_settings
from ks_lottery.config.fields import settings_of
from ks_lottery.config.values import build, values_of
from ks_lottery.errors import UserError

SLOWEST = 10.0
"""Seconds of one call."""

NUMBERS = (10**400, -(10**400), 2**31, 2**32, 2**63, -1, 0, 1, math.nan, math.inf, -math.inf, 1e308, 5e-324)
WORDS = (
    "", " ", "\0", "\x1b[31m", "a\rb", "\u202e", "nan", "1e400", "9" * 5000, "null", "true", "[", "[]", "[1, 2]", "a=b", "=",
    "--", "-", "x" * 5000, ".", "/",
)  # fmt: skip
SIGNS = (
    "&a ", "*a", "<<: ", "!!python/object:os.x ", "!!binary ", "!!set {", "? ", "- ", ": ", "\n", "  ", "\t", "[", "]", "{",
    "}", "|", ">", "'", '"', "#", "---\n", "...\n", "%YAML 1.1\n", "seed: 1\n", "train:\n  epochs: ", "a", "1", "\0", "\ufeff",
    "\x85", "\u2028", "1:1", "0x", "2020-01-01", "~",
)  # fmt: skip
ODD = st.sampled_from([*NUMBERS, *WORDS])
SCALARS = st.one_of(
    ODD, st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.dates(), st.binary(max_size=5)
)
PIECES = st.lists(st.sampled_from(SIGNS), max_size=40).map("".join)


def _is_key(value: object) -> bool:
    return not (isinstance(value, float) and math.isnan(value))


KEYS = st.one_of(st.text(max_size=8), SCALARS.filter(_is_key))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=12,
)


def _word(value: object) -> str:
    return hex(value) if isinstance(value, int) and abs(value) > 2**64 else str(value)


def outcome(command: str, words: list[str]) -> None:
    """Read settings; they must be whole, or the error one printable line."""
    start = time.perf_counter()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            settings = read_settings(command, words)
    except UserError as error:
        text = str(error)
        assert text
        assert "\n" not in text
        assert not set(text) & {"\x1b", "\x07", "\r", "\0", "\u202e"}
        assert len(text) < 1000
    else:
        if settings is not None:
            assert build(type(settings), values_of(settings)) == settings
    assert time.perf_counter() - start < SLOWEST


def read_file(command: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "c.yaml"
        file.write_bytes(content)
        outcome(command, ["--config", str(file)])
        outcome(command, ["--config", str(file), "--print-config"])


@pytest.mark.parametrize("command", COMMANDS)
@examples(25)
@given(st.data())
def test_known_keys_with_any_value(command, data):
    names = [item.name for item in settings_of(COMMANDS[command].settings)]
    content = data.draw(st.dictionaries(st.one_of(st.sampled_from(names), st.text(max_size=8)), VALUES, max_size=5))
    read_file(command, yaml.dump(content, allow_unicode=True).encode("utf-8", "surrogatepass"))


@examples(150)
@given(st.sampled_from(list(COMMANDS)), st.one_of(PIECES.map(str.encode), st.binary(max_size=200)))
def test_any_text_as_yaml(command, content):
    read_file(command, content)


@examples(30)
@given(st.integers(1, 12), st.integers(1, 12), st.booleans())
def test_aliases_of_any_expansion(width, depth, merged):
    lines = ["a0: &a0 {x: 1}" if merged else "a0: &a0 [x]"]
    for level in range(1, depth):
        inner = ", ".join([f"*a{level - 1}"] * width)
        lines.append(f"a{level}: &a{level} {{<<: [{inner}]}}" if merged else f"a{level}: &a{level} [{inner}]")
    read_file("run", "\n".join(lines).encode())


@pytest.mark.parametrize("command", COMMANDS)
@examples(40)
@given(st.data())
def test_flags_with_any_value(command, data):
    actions = build_parser(command)._actions
    flags = sorted({flag for action in actions for flag in action.option_strings} - {"--help", "-h", "--config"})
    word = st.one_of(ODD.map(_word), st.text(max_size=10), st.integers().map(str), st.floats().map(str))
    other = st.text(max_size=6).map("--{}".format)
    words = data.draw(st.lists(st.one_of(st.sampled_from(flags), word, other), max_size=8))
    outcome(command, words)
