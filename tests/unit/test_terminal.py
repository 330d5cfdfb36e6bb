"""Sections on a terminal: columns, lines, and that no text acts on the terminal."""

from __future__ import annotations

import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from ks_lottery.report.forms import show
from ks_lottery.report.section import Column, Section
from ks_lottery.report.table_layout import shortened_to
from ks_lottery.report.terminal import print_sections

HOSTILE = (
    "'[/INST]'", "'[bold]x'", ":smile:", "a\x1b[2Jb", "line\nbreak", "\x9b31m\u202e", "\x1b[31mX", "a\rb", "\x07", "\x7f",
    "\u2066x", "\ud800",
)  # fmt: skip
"""Markup, emoji codes, control characters and what turns the direction of writing round."""


def drawn(*sections: Section, width: int = 100, terminal: bool = False) -> list[str]:
    console = Console(
        width=width, file=io.StringIO(), soft_wrap=True, highlight=False, force_terminal=terminal, color_system=None
    )
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
    lines = drawn(Section(columns=columns, rows=rows, keys=1), width=40, terminal=True)
    assert max(map(len, lines)) <= 40
    heads = [line.split() for line in lines if line.startswith("row")]
    assert [head[0] for head in heads] == ["row"] * len(heads)
    assert [name for head in heads for name in head[1:]] == [f"set-{i}" for i in range(10)]
    assert len(heads) > 1
    assert len(drawn(Section(columns=columns, rows=rows, keys=1), width=200, terminal=True)) == 3
    assert len(drawn(Section(columns=columns, rows=rows, keys=1), width=40)) == 3  # in a pipe nothing is divided


def test_values_wider_than_their_column_are_cut():
    section = Section(
        columns=[Column(title="token", widest=6), Column(title="n", form="d")], rows=[["'" + "x" * 30, 1]]
    )
    assert max(map(len, drawn(section, terminal=True))) <= 6 + 2 + 1
    assert "'" + "x" * 30 in drawn(section)[1]


def wide_table(rows: int = 3) -> Section:
    """Return a table as of a scan: two names, and numbers whose heads are wider than they are."""
    columns = [
        Column(title="tensor", cut="begin"),
        Column(title="row", form="d"),
        Column(title="token", cut="end"),
        *(Column(title=f"a long head {n}", form=".4f") for n in range(8)),
        Column(title="p", form="pvalue"),
    ]
    return Section(
        columns=columns,
        rows=[
            [
                f"model.layers.{n}.mlp.up_proj.weight",
                40_000 + n,
                "'internationalization'",
                *(n + i / 7 for i in range(8)),
                -900.0,
            ]
            for n in range(rows)
        ],
        keys=3,
    )


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_no_number_is_cut_and_each_part_names_its_rows(width):
    """What is printed is read back: every number is there, whole, in a line that begins with its row."""
    section = wide_table()
    lines = drawn(section, width=width, terminal=True)
    assert max(map(len, lines)) <= width
    for row in section.rows:
        own = [line.split() for line in lines if str(row[1]) in line.split()]
        assert [word for words in own for word in words if word.count(".") == 1 and word[0].isdigit()] == [
            *(f"{value:.4f}" for value in row[3:-1]), show(row[-1], "pvalue"),
        ]  # fmt: skip
        for words in own:
            assert words[0].endswith("_proj.weight")
            assert words[0] in row[0] or words[0].startswith("...")
            assert words[2].startswith("'inter")
    assert (len([line for line in lines if line.startswith(("tensor", " "))]) == 1) == (width == 200)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_in_a_pipe_a_table_is_whole_whatever_the_width(width):
    lines = drawn(wide_table(), width=width)
    assert len(lines) == 1 + 3
    assert all("model.layers" in line and "'internationalization'" in line for line in lines[1:])
    assert lines == drawn(wide_table(), width=1000, terminal=True)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_sentences_are_wrapped_on_a_terminal_and_not_in_a_pipe(width):
    """At spaces alone, below the first word; neither a command nor a signature is broken."""
    said = "        The columns of the sets show the row's position in each set; 1 is the first ticket. " * 4
    command = "  ks-lottery " + "export runs/demo/partial --to peft --out adapter " * 4
    signature = (
        "BLEU: nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.5.1|seed:12345|resamples:2000|bootstrap:2000"
    )
    section = Section(title=said.strip(), sentences=[said, command.rstrip(), signature])
    assert drawn(section, width=width) == [said.strip(), said.rstrip(), command.rstrip(), signature]
    lines = drawn(section, width=width, terminal=True)
    assert command.rstrip() in lines
    assert signature.split()[1] in " ".join(lines).split()
    wrapped = [line for line in lines if line.startswith(" " * 8)]
    assert max(map(len, wrapped)) <= width
    assert all(line[8] != " " for line in wrapped)
    assert " ".join(line.strip() for line in wrapped) == said.strip()


@pytest.mark.parametrize("text", ["日本語" * 20, "é" * 60, "a" * 60])
def test_a_name_is_cut_by_the_width_of_its_characters(text):
    for cut in ("begin", "end"):
        shown = shortened_to(text, 21, cut)
        assert cell_len(shown) <= 21
        assert (shown[:3] if cut == "begin" else shown[-3:]) == "..."
        assert shortened_to(text, 200, cut) == text


def test_a_row_needs_a_value_for_each_column():
    with pytest.raises(ValueError, match="needs 2 values"):
        Section(columns=[Column(title="a"), Column(title="b")], rows=[[1]])
