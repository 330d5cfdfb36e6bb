"""Sections on a terminal. Text is printed as it is: no markup, no emoji codes, no control characters."""

from __future__ import annotations

import textwrap
from io import StringIO
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ks_lottery.report.forms import printable
from ks_lottery.report.table_layout import GAP, placed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ks_lottery.report.section import Section
    from ks_lottery.report.table_layout import PlacedColumn

VERBATIM = ("ks-lottery ", "| ")
"""Begin of a line that is never wrapped: a command to copy, and a line of a prompt."""


def print_sections(console: Console, sections: Sequence[Section]) -> None:
    """Print sections, with an empty line between them; one without content is left out.

    On a terminal everything fits its width, if a name and a number do; in a file or a pipe, lines are as long as their content.
    """
    filled = [section for section in sections if section.title or section.rows or section.sentences]
    for number, section in enumerate(filled):
        if number:
            console.print()
        if section.title:
            print_line(console, section.title)
        if section.rows:
            layout = placed(section, console.width if console.is_terminal else None)
            for place, columns in enumerate(layout.parts):
                if place:
                    console.print()
                _print_table(console, columns)
            if layout.left_out:
                print_line(
                    console, f"Too wide for this screen: {', '.join(layout.left_out)}. A file or a pipe has them."
                )
        for sentence in section.sentences:
            print_line(console, sentence)


def to_text(sections: Sequence[Section]) -> str:
    """Return sections as they are written to a file: lines as long as their content, without colours."""
    text = StringIO()
    print_sections(
        Console(file=text, force_terminal=False, soft_wrap=True, highlight=False, color_system=None), sections
    )
    return text.getvalue()


def print_line(console: Console, text: str) -> None:
    """Print a line of text as it is; a text with line breaks is several lines.

    On a terminal a line that is too long is wrapped between words, below its own first word. A command is not, so that it can
    be copied, and neither is a word, such as a signature.
    """
    for line in text.split("\n"):
        for part in wrapped(printable(line), console.width if console.is_terminal else None):
            console.print(Text(part))


def wrapped(line: str, width: int | None) -> list[str]:
    """Return a line in parts of at most `width` characters, each with the indentation of the first.

    >>> wrapped("    one two three", 12), wrapped("  ks-lottery scan BASE TUNED", 12)
    (['    one two', '    three'], ['  ks-lottery scan BASE TUNED'])
    """
    words = line.lstrip(" ")
    indent = " " * (len(line) - len(words))
    if width is None or len(line) <= width or words.startswith(VERBATIM):
        return [line]
    return textwrap.wrap(
        words, max(width, len(indent) + 1), initial_indent=indent, subsequent_indent=indent, break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip


def _print_table(console: Console, columns: Sequence[PlacedColumn]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for one in columns:
        table.add_column(Text(one.head), justify=one.column.side, width=one.width, overflow="fold")
    for row in zip(*(one.cells for one in columns), strict=True):
        table.add_row(*map(Text, row))
    before, need = console.width, sum(one.width for one in columns) + GAP * len(columns)
    console.width = max(before, need)  # a table that is wider would be cropped
    try:
        console.print(table)
    finally:
        console.width = before
