"""Sections as Markdown, with tables as GitHub reads them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ks_lottery.report.forms import printable, show

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ks_lottery.report.section import Section

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
