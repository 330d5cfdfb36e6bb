"""How wide the columns of a table are in a terminal, and into which tables it is divided where it is too wide for one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len

from ks_lottery.report.forms import printable, show

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ks_lottery.report.section import Column, Section

GAP = 2
"""Characters between two columns."""

NARROWEST = 12
"""Characters that a column of text has at least where it is narrowed, unless its values are shorter."""

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


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The tables that a section is printed as.

    Parameters
    ----------
    parts
        The columns of each table.
    left_out
        Heads of the columns that are in none of them.
    """

    parts: Sequence[Sequence[PlacedColumn]]
    left_out: Sequence[str] = ()


def placed(section: Section, width: int | None) -> Layout:
    """Return the tables that a section is printed as.

    A number is never cut, and a column that names a row is in each table. Where the table is too wide, heads take several
    lines, then columns of least use are left out (`Column.drop`), then names and tokens are shortened, then the table is
    divided. Only where not even a name and one number fit is a line longer than the terminal.

    Parameters
    ----------
    width
        Characters of a line; None where there is no limit, as in a file: then nothing is shortened, left out or divided.
    """
    columns = section.columns
    cells = [[show(row[place], column.form) for row in section.rows] for place, column in enumerate(columns)]
    heads = [printable(column.title) for column in columns]
    shown = list(range(len(columns)))
    widths = [max(map(cell_len, (head, *texts))) for head, texts in zip(heads, cells, strict=True)]
    if width is None:
        return Layout(parts=[[_column(columns[i], widths[i], heads[i], cells[i]) for i in shown]])
    widths = [min(natural, column.widest or natural) for natural, column in zip(widths, columns, strict=True)]
    if _sum(widths) > width:
        least = [_least(*parts) for parts in zip(columns, heads, cells, strict=True)]
        widths = [min(pair) for pair in zip(widths, least, strict=True)]
    for place in sorted(shown, key=lambda i: -columns[i].drop):
        if columns[place].drop and _sum([widths[i] for i in shown]) > width:
            shown.remove(place)
    floors = [
        min(widths[i], _floor(column, heads[i], cells[i])) if _sum(widths) > width else 0
        for i, column in enumerate(columns)
    ]
    narrowed = _narrowed(columns, widths, floors, shown, width)
    if _sum([narrowed[i] for i in shown]) <= width:
        widths, parts = narrowed, [shown]
    else:
        keys, others = shown[: section.keys], shown[section.keys :]
        widths = _narrowed(columns, widths, floors, keys, width * KEYS_SHARE // 100)
        widest = max([floors[i] for i in others], default=0)
        widths = _narrowed(columns, widths, floors, keys, width - widest - GAP)
        room = width - _sum([widths[i] for i in keys]) - GAP
        for i in others:
            widths[i] = max(min(widths[i], room), floors[i])
        parts = _divided(widths, keys, others, width)
    return Layout(
        parts=[[_column(columns[i], widths[i], heads[i], cells[i]) for i in part] for part in parts],
        left_out=[head for i, head in enumerate(heads) if i not in shown],
    )


def _sum(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * max(0, len(widths) - 1)


def _least(column: Column, head: str, cells: Sequence[str]) -> int:
    """Return the width at which no value is cut and the head takes several lines."""
    widest = _longest_word([head])
    return max([widest if column.widest is None else min(widest, column.widest), *map(cell_len, cells)])


def _longest_word(texts: Sequence[str]) -> int:
    return max([cell_len(word) for text in texts for word in text.split()] or [0])


def _floor(column: Column, head: str, cells: Sequence[str]) -> int:
    """Return the width that a column is narrowed to at most.

    Numbers stay whole, text that takes several lines is broken between words, and names that differ still differ when they are
    cut.
    """
    if column.side != "left":
        return _least(column, head, cells)
    if column.cut is None and column.widest is None:
        return max(NARROWEST, _longest_word([head, *cells]))
    if column.cut != "begin":
        return NARROWEST
    names = list(dict.fromkeys(cells))
    longest = max(map(cell_len, names), default=0)
    fitting = (w for w in range(NARROWEST, longest) if len(set(_shortened(column, names, w))) == len(names))
    return next(fitting, max(NARROWEST, longest))


def _narrowed(
    columns: Sequence[Column], widths: Sequence[int], floors: Sequence[int], places: Sequence[int], most: int
) -> list[int]:
    """Return widths with the widest columns of text among `places` narrowed until these fit into `most`, as far as they may."""
    narrowed = list(widths)
    while _sum([narrowed[i] for i in places]) > most:
        texts = [i for i in places if columns[i].side == "left" and narrowed[i] > floors[i]]
        if not texts:
            break
        # The end of a name tells most, that of a token least.
        narrowed[max(texts, key=lambda i: (columns[i].cut == "end", narrowed[i]))] -= 1
    return narrowed


def _divided(widths: Sequence[int], keys: list[int], others: Sequence[int], width: int) -> list[list[int]]:
    """Return the columns of each part: the keys, and as many others as fit beside them."""
    start = _sum([widths[i] for i in keys])
    parts: list[list[int]] = []
    used = width
    for place in others:
        need = widths[place] + (GAP if keys else 0)
        if not parts or used + need > width:
            parts.append([*keys])
            used = start
        parts[-1].append(place)
        used += need
    return parts or [keys]


def _column(column: Column, width: int, head: str, cells: Sequence[str]) -> PlacedColumn:
    """Return a column whose head's words and, unless they are text without a limit, values fit into its width."""
    shown = _shortened(column, cells, width) if column.cut or column.widest else list(cells)
    words = " ".join(shortened_to(word, width, "begin") for word in head.split(" "))
    return PlacedColumn(column=column, width=width, head=words, cells=shown)


def _shortened(column: Column, cells: Sequence[str], width: int) -> list[str]:
    """Return the values of a column that is so wide."""
    if column.ending and any(cell_len(text) > width for text in cells):
        cells = [text.removesuffix(column.ending) for text in cells]
    return [shortened_to(text, width, column.cut or "end") for text in cells]


def shortened_to(text: str, width: int, cut: str = "end") -> str:
    """Return text that is at most so many characters of a terminal wide, with dots where it was cut.

    At its begin a name is cut behind a point or a slash, where that leaves more than half of the width.

    >>> shortened_to("model.layers.0.mlp.up_proj", 16, "begin"), shortened_to("'everything'", 8)
    ('...0.mlp.up_proj', "'ever...")
    >>> shortened_to("model.layers.0.mlp.up_proj", 18, "begin")
    '...0.mlp.up_proj'
    """
    if cell_len(text) <= width:
        return text
    dots = DOTS[: max(0, width)]
    rest = text
    while rest and cell_len(rest) + len(dots) > width:
        rest = rest[1:] if cut == "begin" else rest[:-1]
    if cut != "begin":
        return f"{rest}{dots}"
    starts = [place + 1 for place, character in enumerate(rest) if character in "./"]
    before = text[len(text) - len(rest) - 1 : len(text) - len(rest)]
    part = rest if before in {".", "/"} or not starts else rest[starts[0] :]
    return f"{dots}{part if 2 * cell_len(part) > cell_len(rest) else rest}"
