"""Any section has a text in each format, and what the format's own reader finds in it is the section."""

from __future__ import annotations

import csv
import io
import re

from amount import examples
from hypothesis import given
from hypothesis import strategies as st

from ks_lottery.report.delimited import to_csv
from ks_lottery.report.forms import show
from ks_lottery.report.latex import to_latex
from ks_lottery.report.markdown import to_markdown
from ks_lottery.report.section import Column, Section
from ks_lottery.report.terminal import to_text

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["a|b", "\\", "`", "a\nb", "a\r\nb", '"', "{", "}", "%", "[/INST]", "\x1b[2J", "&", "\\\\", "$x$", "<b>", ","]
)
NUMBER = st.floats(allow_nan=False, allow_infinity=False, width=32)
VALUES = {
    "text": TEXT | st.none(),
    ".4f": NUMBER | st.none(),
    "interval": st.tuples(NUMBER, NUMBER) | st.none(),
    "integer": st.integers(-(10**12), 10**12) | st.none(),
}


@st.composite
def sections(draw):
    forms = draw(st.lists(st.sampled_from(list(VALUES)), min_size=1, max_size=4))
    columns = [Column(title=draw(TEXT), form=form) for form in forms]
    rows = draw(st.lists(st.tuples(*(VALUES[form] for form in forms)), max_size=4))
    return Section(title=draw(TEXT), columns=columns, rows=rows, sentences=draw(st.lists(TEXT, max_size=2)))


@examples(500)
@given(sections())
def test_csv_has_every_raw_value(section):
    read = list(csv.reader(io.StringIO(to_csv(section), newline="")))
    if not section.rows:
        assert read == []
        return
    assert len(read) == 1 + len(section.rows)
    assert len({len(line) for line in read}) == 1
    for line, row in zip(read[1:], section.rows, strict=True):
        cells = iter(line)
        for place, value in enumerate(row):
            two = any(isinstance(other[place], tuple) for other in section.rows)
            parts = [next(cells) for _ in range(1 + two)]
            wanted = list(value) if isinstance(value, tuple) else [value, *([None] * two)]
            assert parts == ["" if part is None else str(part) for part in wanted]


@examples(500)
@given(sections())
def test_markdown_has_one_line_a_row_and_no_markup_of_the_text(section):
    lines = [line for line in to_markdown([section]).split("\n") if line.startswith("| ")]
    assert len(lines) == (2 + len(section.rows) if section.rows else 0)
    for line, row in zip(lines[2:], section.rows, strict=False):
        cells = re.split(r" (?<!\\)\| ", f" {line[2:-2]} ")
        plain = [re.sub(r"\\([^A-Za-z0-9\s])", r"\1", cell.strip(" ")) for cell in cells]
        shown = [show(value, column.form) for value, column in zip(row, section.columns, strict=True)]
        assert len(plain) == len(shown)
        assert [cell.strip(" ") for cell in shown] == plain


@examples(500)
@given(sections())
def test_latex_has_balanced_braces_and_one_line_a_row(section):
    text = to_latex([section])
    bare = re.sub(r"\\[{}$&#%_]", "", text)
    depth = 0
    for character in bare:
        depth += (character == "{") - (character == "}")
        assert depth >= 0
    assert depth == 0
    assert "\x1b" not in text
    rows = [line for line in bare.split("\n") if line.endswith(r" \\")]
    assert len(rows) == (1 + len(section.rows) if section.rows else 0)
    assert all(row.count("&") == len(section.columns) - 1 for row in rows)


@examples(300)
@given(sections())
def test_text_cannot_act_on_a_terminal(section):
    assert all(character == "\n" or character.isprintable() for character in to_text([section]))
