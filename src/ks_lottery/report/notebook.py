"""Sections as HTML for a notebook: escaped, without scripts, and short whatever the size of what is shown."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from ks_lottery.report.forms import printable, show

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ks_lottery.report.section import Section

LARGEST = 80_000
"""Characters of HTML after which nothing more is added."""

LONGEST = 200
"""Characters of a cell, before they are escaped."""

MOST_ROWS, MOST_COLUMNS, LONGEST_SENTENCE = 50, 30, 1000


class Shown:
    """A noun that a notebook shows as its sections."""

    def sections(self) -> Sequence[Section]:
        """Return its content as sections."""
        raise NotImplementedError

    def _repr_html_(self) -> str:
        return to_html(self.sections())


def to_html(sections: Sequence[Section]) -> str:
    """Return sections as HTML, under 100 kB: tables are cut after 50 rows, and everything after some 80,000 characters."""
    parts: list[str] = []
    size = 0
    for part in _parts(sections):
        if size + len(part.encode()) > LARGEST:
            parts.append("<p>&hellip;</p>")
            break
        parts.append(part)
        size += len(part.encode())
    return f"<div>{''.join(parts)}</div>"


def _parts(sections: Sequence[Section]) -> Iterator[str]:
    """Yield pieces that are whole HTML each: titles, tables, sentences."""
    for section in sections:
        if section.title:
            yield f"<p><b>{_text(section.title, LONGEST_SENTENCE)}</b></p>"
        if section.rows:
            yield _table(section)
        for sentence in section.sentences:
            yield f"<p>{_text(sentence, LONGEST_SENTENCE)}</p>"


def _table(section: Section) -> str:
    """Return the first rows of a table that fit into half of the whole."""
    columns = section.columns[:MOST_COLUMNS]
    head = "".join(f'<th style="text-align:{c.side}">{_text(c.title, LONGEST)}</th>' for c in columns)
    rows: list[str] = []
    size = 0
    for row in section.rows[:MOST_ROWS]:
        cells = zip(row, columns, strict=False)
        html = "".join(f'<td style="text-align:{c.side}">{_text(show(v, c.form), LONGEST)}</td>' for v, c in cells)
        size += len(html.encode())
        if size > LARGEST // 2:
            break
        rows.append(f"<tr>{html}</tr>")
    more = len(section.rows) - len(rows)
    note = f"<p>&hellip; and {more:,} more rows</p>" if more else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>{note}"


def _text(text: str, longest: int) -> str:
    shown = printable(text)
    return escape(shown if len(shown) <= longest else f"{shown[: longest - 3]}...")
