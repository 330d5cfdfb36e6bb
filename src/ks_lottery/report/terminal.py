"""Sections on a terminal. Text is printed as it is: no markup, no emoji codes, no control characters."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ks_lottery.report.forms import printable, show

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ks_lottery.report.section import Column, Section

GAP = 2
"""Characters between two columns."""


def print_sections(console: Console, sections: Sequence[Section]) -> None:
    """Print sections, with an empty line between them; one without content is left out."""
    filled = [section for section in sections if section.title or section.rows or section.sentences]
    for number, section in enumerate(filled):
        if number:
            console.print()
        if section.title:
            print_line(console, section.title)
        for place, table in enumerate(_tables(section, console.width)):
            if place:
                console.print()
            console.print(table)
        for sentence in section.sentences:
            print_line(console, sentence)


def to_text(sections: Sequence[Section], width: int = 160) -> str:
    """Return sections as they are shown on a terminal of `width` characters (160), without colours."""
    text = StringIO()
    print_sections(Console(file=text, width=width, soft_wrap=True, highlight=False, color_system=None), sections)
    return text.getvalue()


def print_line(console: Console, text: str) -> None:
    """Print a line of text as it is; a text with line breaks is several lines."""
    for line in text.split("\n"):
        console.print(Text(printable(line)))


def _tables(section: Section, width: int) -> Iterator[Table]:
    """Return the table of a section, or several that fit `width`; none when there are no rows."""
    if not section.rows:
        return
    cells = [[show(row[place], column.form) for row in section.rows] for place, column in enumerate(section.columns)]
    for places in _blocks(section, cells, width):
        table = Table(box=None, pad_edge=False, header_style="bold")
        for place in places:
            column = section.columns[place]
            table.add_column(
                Text(printable(column.title)),
                justify=column.side,
                no_wrap=column.side == "right" or column.widest is not None,
                max_width=column.widest,
            )
        for number in range(len(section.rows)):
            table.add_row(*(Text(cells[place][number]) for place in places))
        yield table


def _blocks(section: Section, cells: Sequence[Sequence[str]], width: int) -> list[list[int]]:
    """Return the columns of each table: all of them, or as many beside the keys as fit `width`."""
    count = len(section.columns)
    if not section.keys:
        return [list(range(count))]
    keys = list(range(section.keys))
    room = width - sum(_width(section.columns[key], cells[key]) for key in keys) - GAP * (len(keys) - 1)
    blocks: list[list[int]] = []
    free = 0
    for place in range(section.keys, count):
        need = GAP + _width(section.columns[place], cells[place])
        if not blocks or need > free:
            blocks.append([*keys])
            free = room
        blocks[-1].append(place)
        free -= need
    return blocks or [keys]


def _width(column: Column, cells: Sequence[str]) -> int:
    need = max(cell_len(text) for text in (printable(column.title), *cells))
    return need if column.widest is None else min(column.widest, need)
