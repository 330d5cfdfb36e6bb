"""Sections on a terminal: columns, lines, and that no text acts on the terminal."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
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


NAMES = st.sampled_from(
    [f"model.layers.{n}.{part}.weight" for n in (0, 7, 31) for part in ("mlp.up_proj", "self_attn.q_proj")]
)
TOKENS = st.text(st.characters(categories=["L", "N"], max_codepoint=0x4FFF), min_size=1, max_size=30).map(
    lambda t: f"'{t}'"
)


@st.composite
def tables(draw) -> Section:
    """A table as commands make them: a name and a token, numbers of every form, perhaps a text of several words."""
    forms = draw(
        st.lists(st.sampled_from(["d", ".4f", ".3g", "pvalue", "interval", "integer", "bytes"]), min_size=1, max_size=9)
    )
    numbers = st.floats(0, 1e6, allow_nan=False)
    made = {
        "d": numbers.map(int), ".4f": numbers, ".3g": numbers, "pvalue": numbers.map(lambda x: -x), "integer": numbers.map(int),
        "interval": st.tuples(numbers, numbers), "bytes": numbers.map(int),
    }  # fmt: skip
    says = draw(st.booleans())
    columns = [
        Column(title="tensor", cut="begin", ending=".weight"),
        Column(title="row", form="d"),
        Column(title="token", cut="end"),
        *(Column(title=f"head {place}", form=form, drop=draw(st.integers(0, 3))) for place, form in enumerate(forms)),
        *([Column(title="what it says")] if says else []),
    ]
    words = st.lists(st.text("abcde", min_size=1, max_size=12), min_size=1, max_size=12).map(" ".join)
    rows = [
        [
            draw(NAMES), 1000 + place, draw(TOKENS), *(draw(made[form]) for form in forms), *([draw(words)] if says else []),
        ]
        for place in range(draw(st.integers(1, 4)))
    ]  # fmt: skip
    return Section(columns=columns, rows=rows, keys=3, sentences=[draw(words)])


@settings(max_examples=150)
@given(tables(), st.integers(40, 200))
def test_at_every_width_rows_are_named_and_nothing_is_cut(section, width):
    """What is drawn is read back from the screen, cell by cell, without the layout."""
    lines = drawn(section, width=width, terminal=True)
    said = section.sentences[0].split()
    text = " ".join(lines).split()
    assert text[-len(said) :] == said
    note = next((line for line in lines if line.startswith("Too wide for this screen:")), None)
    dropped = (
        []
        if note is None
        else " ".join(lines).partition("Too wide for this screen: ")[2].partition(". A file")[0].split(", ")
    )
    assert all(next(c.drop for c in section.columns if c.title == name) for name in dropped)
    for row in section.rows:
        own = [line for line in lines if f" {row[1]} " in line]
        shown = " ".join(own)
        assert own
        assert all(line.split()[0].removeprefix("...") in row[0] for line in own)
        assert all(f" {row[1]}  {row[2][:5]}"[:-3] in line for line in own)
        for column, value in zip(section.columns[3:], row[3:], strict=True):
            if column.form != "text" and column.title not in dropped:
                assert f" {show(value, column.form)}" in shown, (column, value)
        if section.columns[-1].form == "text":
            assert set(row[-1].split()) <= set(text)
    if min(width, max(map(cell_len, lines))) < width or width >= 80:
        assert max(map(cell_len, lines)) <= width
    names = {row[0] for row in section.rows}
    firsts = {line.split()[0] for line in lines for row in section.rows if f" {row[1]} " in line}
    assert len(firsts) == len(names), "two names that differ look alike"


@settings(max_examples=50)
@given(tables(), st.integers(40, 200))
def test_in_a_pipe_every_value_is_whole_at_every_width(section, width):
    lines = drawn(section, width=width)
    assert len(lines) == 1 + len(section.rows) + 1
    for line, row in zip(lines[1:-1], section.rows, strict=True):
        for column, value in zip(section.columns, row, strict=True):
            assert show(value, column.form) in line
    assert lines[-1] == section.sentences[0]


@pytest.mark.parametrize("width", [40, 60, 80])
def test_columns_of_least_use_are_left_out_first_and_named(width):
    columns = [Column(title="name", cut="begin"), *(Column(title=f"figure-{n}", form=".4f", drop=n) for n in range(9))]
    section = Section(columns=columns, rows=[["model.layers.0.mlp.up_proj", *(n / 7 for n in range(9))]])
    lines = drawn(section, width=width, terminal=True)
    kept = [word for word in lines[0].split() if word.startswith("figure")]
    assert kept == [f"figure-{n}" for n in range(len(kept))]
    assert 0 < len(kept) < 9
    assert all(f"figure-{n}" in " ".join(lines[2:]) for n in range(len(kept), 9))
    assert lines[1].split()[0] in {"model.layers.0.mlp.up_proj", "...0.mlp.up_proj", "...layers.0.mlp.up_proj"}
