"""How wide the columns of a table are in a terminal, and into which tables it is divided where it is too wide for one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len

from ks_lottery.report.forms import printable, show

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ks_lottery.report.section import Column, Section

GAP = 2
"""Characters between two columns."""

NARROWEST = 12
"""Characters that a column of text is narrowed to at most."""

KEYS_SHARE = 60
"""Percent of the width that the columns that name a row take at most in a table that is divided."""

DOTS = "..."


@dataclass(frozen=True, kw_only=True)
class PlacedColumn:
    """One column of a table as it is printed.

    Parameters
    ----------
    column
        The column.
    width
        Its width in characters of the terminal.
    head, cells
        Its head and its values, none of them wider than `width`, unless they may take several lines.
    """

    column: Column
    width: int
    head: str
    cells: Sequence[str]


def placed(section: Section, width: int | None) -> Iterator[list[PlacedColumn]]:
    """Yield the columns of each table that a section is printed as.

    A number is never cut and no column is left out. Where the table is too wide, heads take several lines, then names and
    tokens are shortened, then the table is divided; each part begins with the columns that name a row.

    Parameters
    ----------
    width
        Characters of a line; None where there is no limit, as in a file: then nothing is shortened or divided.
    """
    cells = [[show(row[place], column.form) for row in section.rows] for place, column in enumerate(section.columns)]
    heads = [printable(column.title) for column in section.columns]
    everything = list(range(len(section.columns)))
    widths = [max(map(cell_len, (head, *texts))) for head, texts in zip(heads, cells, strict=True)]
    if width is None:
        yield [_column(section.columns[i], widths[i], heads[i], cells[i]) for i in everything]
        return
    least = [_least(*parts) for parts in zip(section.columns, heads, cells, strict=True)]
    widths = [min(natural, column.widest or natural) for natural, column in zip(widths, section.columns, strict=True)]
    narrow = [min(pair) for pair in zip(widths, least, strict=True)]
    if _sum(widths) > width:
        widths = narrow
    if _sum(widths) > width and _sum(_narrowed(section, widths, everything, width)) <= width:
        widths = _narrowed(section, widths, everything, width)
    if _sum(widths) <= width:
        parts = [everything]
    else:
        keys = everything[: section.keys]
        widths = _narrowed(section, widths, keys, width * KEYS_SHARE // 100)
        parts = _divided(widths, keys, width)
    for part in parts:
        room = width - _sum([widths[i] for i in part[:-1]]) - GAP * (len(part) > 1)
        last = part[-1]
        own = {**{i: widths[i] for i in part}, last: max(1, min(widths[last], room))}
        yield [_column(section.columns[i], own[i], heads[i], cells[i]) for i in part]


def _sum(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * max(0, len(widths) - 1)


def _least(column: Column, head: str, cells: Sequence[str]) -> int:
    """Return the width at which no value is cut and the head takes several lines."""
    widest = max([cell_len(word) for word in head.split()] or [0])
    return max([widest if column.widest is None else min(widest, column.widest), *map(cell_len, cells)])


def _narrowed(section: Section, widths: Sequence[int], places: Sequence[int], most: int) -> list[int]:
    """Return widths with the widest columns of text among `places` narrowed until these fit into `most`, as far as they may."""
    narrowed = list(widths)
    while _sum([narrowed[i] for i in places]) > most:
        texts = [i for i in places if section.columns[i].side == "left" and narrowed[i] > NARROWEST]
        if not texts:
            break
        # The end of a name tells most, that of a token least.
        narrowed[max(texts, key=lambda i: (section.columns[i].cut == "end", narrowed[i]))] -= 1
    return narrowed


def _divided(widths: Sequence[int], keys: list[int], width: int) -> list[list[int]]:
    """Return the columns of each part: the keys, and as many others as fit beside them."""
    start = _sum([widths[i] for i in keys])
    parts: list[list[int]] = []
    used = width
    for place in range(len(keys), len(widths)):
        need = widths[place] + (GAP if keys else 0)
        if not parts or used + need > width:
            parts.append([*keys])
            used = start
        parts[-1].append(place)
        used += need
    return parts or [keys]


def _column(column: Column, width: int, head: str, cells: Sequence[str]) -> PlacedColumn:
    """Return a column whose head's words and, unless they are text without a limit, values fit into its width."""
    shown = (
        [shortened_to(text, width, column.cut or "end") for text in cells]
        if column.cut or column.widest
        else list(cells)
    )
    words = " ".join(shortened_to(word, width, "begin") for word in head.split(" "))
    return PlacedColumn(column=column, width=width, head=words, cells=shown)


def shortened_to(text: str, width: int, cut: str = "end") -> str:
    """Return text that is at most so many characters of a terminal wide, with dots where it was cut.

    >>> shortened_to("model.layers.0.mlp.up_proj", 16, "begin"), shortened_to("'everything'", 8)
    ('...0.mlp.up_proj', "'ever...")
    """
    if cell_len(text) <= width:
        return text
    dots = DOTS[: max(0, width)]
    rest = text
    while rest and cell_len(rest) + len(dots) > width:
        rest = rest[1:] if cut == "begin" else rest[:-1]
    return f"{dots}{rest}" if cut == "begin" else f"{rest}{dots}"
