"""Sections as Markdown, with tables as GitHub reads them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ks_lottery.report.forms import printable, show
from ks_lottery.report.section import Column, Section

if TYPE_CHECKING:
    from collections.abc import Sequence

_SPECIAL = re.compile(r"([\\`*_\[\]<>|~#&])")


def to_markdown(sections: Sequence[Section]) -> str:
    """Return sections as Markdown: titles as headings of the second level, one paragraph for each sentence.

    Text has no markup of its own: every character that would be some is escaped.
    """
    blocks: list[str] = []
    for section in sections:
        if section.title:
            blocks.append(f"## {escaped(section.title)}")
        if section.rows:
            blocks.append(_table(section))
        blocks += [escaped(sentence) for sentence in section.sentences]
    return "\n\n".join(blocks) + "\n" if blocks else ""


def escaped(text: str) -> str:
    r"""Return text in which Markdown sees no markup, in one line.

    >>> print(escaped("a|b *c* <d>"))
    a\|b \*c\* \<d\>
    """
    return _SPECIAL.sub(r"\\\1", printable(text)).replace("\n", " ")


def _table(section: Section) -> str:
    head = [escaped(column.title) for column in section.columns]
    sides = ["---" if column.side == "left" else "---:" for column in section.columns]
    rows = [
        [escaped(show(value, column.form)) for value, column in zip(row, section.columns, strict=True)]
        for row in section.rows
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, sides, *rows))


def from_markdown(text: str) -> list[Section]:
    r"""Return what `to_markdown` wrote as sections; values are text, as they were shown.

    A heading begins a section, and so does a second table. A table keeps the sides of its columns.

    >>> section, = from_markdown("## A\n\n| a\\|b | n |\n| --- | ---: |\n| x | 1.5 |\n\nDone\\.\n")
    >>> section.title, [column.title for column in section.columns], section.rows, section.sentences
    ('A', ['a|b', 'n'], [['x', '1.5']], ['Done\\.'])
    """
    sections: list[Section] = []
    title, columns, rows, sentences = "", list[Column](), list[list[str]](), list[str]()

    def close() -> None:
        if title or rows or sentences:
            sections.append(Section(title=title, columns=columns, rows=rows, sentences=sentences))

    for block in text.split("\n\n"):
        lines = block.strip("\n").split("\n")
        if block.startswith("## ") or (block.startswith("| ") and (rows or sentences)):
            close()
            title, columns, rows, sentences = "", [], [], []
        if block.startswith("## "):
            title = unescaped(lines[0][3:])
        elif block.startswith("| "):
            heads, sides, *body = [_cells(line) for line in lines]
            columns = [
                Column(title=head, align="right" if side.endswith(":") else "left")
                for head, side in zip(heads, sides, strict=True)
            ]
            rows = [cells for cells in body if len(cells) == len(columns)]
        elif lines != [""]:
            sentences.append(unescaped(" ".join(lines)))
    close()
    return sections


def unescaped(text: str) -> str:
    r"""Return what `escaped` was given, in one line.

    >>> unescaped(escaped("a|b *c*")), unescaped("a\\.b")
    ('a|b *c*', 'a\\.b')
    """
    return re.sub(r"\\([\\`*_\[\]<>|~#&])", r"\1", text)


def _cells(line: str) -> list[str]:
    return [unescaped(cell) for cell in re.split(r"(?<!\\) \| ", line.removeprefix("| ").removesuffix(" |"))]
