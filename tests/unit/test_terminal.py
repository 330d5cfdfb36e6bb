"""Sections on a terminal: columns, lines, and that no text acts on the terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from ks_lottery.report.section import Column, Section
from ks_lottery.report.terminal import print_sections

HOSTILE = (
    "'[/INST]'", "'[bold]x'", ":smile:", "a\x1b[2Jb", "line\nbreak", "\x9b31m\u202e", "\x1b[31mX", "a\rb", "\x07", "\x7f",
    "\u2066x", "\ud800",
)  # fmt: skip
"""Markup, emoji codes, control characters and what turns the direction of writing round."""


def drawn(*sections: Section, width: int = 100) -> list[str]:
    console = Console(width=width, file=io.StringIO(), soft_wrap=True, highlight=False, force_terminal=False)
    print_sections(console, sections)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_a_section_is_a_title_a_table_and_sentences():
    columns = [Column(title="name"), Column(title="k", form="d"), Column(title="D", form=".2f")]
    section = Section(
        title="Title", columns=columns, rows=[["a", 5, 0.5], ["bc", 12, None]], sentences=["One.", "Two."]
    )
    assert drawn(section, Section(), Section(sentences=["Three."])) == [
        "Title",
        "name   k     D",
        "a      5  0.50",
        "bc    12     -",
        "One.",
        "Two.",
        "",
        "Three.",
    ]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("where", ["title", "head", "cell", "sentence"])
def test_text_is_shown_as_it_is_and_never_acts(text, where):
    section = Section(
        title=text if where == "title" else "",
        columns=[Column(title=text if where == "head" else "x"), Column(title="n", form="d")],
        rows=[[text if where == "cell" else "y", 1]],
        sentences=[text] if where == "sentence" else [],
    )
    console = Console(width=100, file=io.StringIO(), soft_wrap=True, force_terminal=True, color_system=None)
    print_sections(console, [section])
    written = console.file.getvalue()
    assert "\x1b[2J" not in written
    assert not set(written) & set("\x07\x9b\u202e")
    for part in text.split("\n") if where in {"title", "sentence"} else [text.replace("\n", r"\n")]:
        assert "".join(c if c.isprintable() else repr(c)[1:-1] for c in part) in written


def test_a_wide_table_is_divided_and_its_keys_are_repeated():
    columns = [Column(title="row", form="d"), *(Column(title=f"set-{i}", form="d", widest=8) for i in range(10))]
    rows = [[7, *range(10)], [123, *range(10)]]
    lines = drawn(Section(columns=columns, rows=rows, keys=1), width=40)
    assert max(map(len, lines)) <= 40
    heads = [line.split() for line in lines if line.startswith("row")]
    assert [head[0] for head in heads] == ["row"] * len(heads)
    assert [name for head in heads for name in head[1:]] == [f"set-{i}" for i in range(10)]
    assert len(heads) > 1
    assert len(drawn(Section(columns=columns, rows=rows, keys=1), width=200)) == 3


def test_values_wider_than_their_column_are_cut():
    section = Section(
        columns=[Column(title="token", widest=6), Column(title="n", form="d")], rows=[["'" + "x" * 30, 1]]
    )
    assert max(map(len, drawn(section))) <= 6 + 2 + 1


def test_a_row_needs_a_value_for_each_column():
    with pytest.raises(ValueError, match="needs 2 values"):
        Section(columns=[Column(title="a"), Column(title="b")], rows=[[1]])
