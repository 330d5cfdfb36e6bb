"""How much sets of tickets share, pair by pair, and row by row as in table 8 of the paper.

Must never compute a figure: it shows what `ks_lottery.tickets.tickets.overlap` and `ks_lottery.tickets.overlap` found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

WIDEST_TOKEN = 20
WIDEST_NAME = 16
"""Columns of the terminal that a token, and the name of a set, take at most."""

MOST_NAMED = 30
"""Common rows that are named on the screen; ``--json`` has them all."""


def overlap_table(pairs: Sequence[Mapping[str, Any]]) -> Table:
    """Return one line a pair of sets."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("one", "other"):
        table.add_column(name)
    for name in ("rows", "rows", "shared", "Jaccard"):
        table.add_column(name, justify="right", no_wrap=True)
    for pair in pairs:
        sizes = [f"{size:,}" for size in pair["sizes"]]
        shared = [f"{pair['shared']:,}", f"{pair['jaccard']:.3f}"]
        table.add_row(Text(pair["one"]), Text(pair["other"]), *sizes, *shared)
    return table


def side_by_side_tables(rows: Sequence[Mapping[str, Any]], heads: Mapping[str, str], width: int) -> list[Table]:
    """Return the rows with their place in each set; several tables where the sets do not fit beside each other.

    Parameters
    ----------
    heads
        What stands over the column of each set.
    width
        Columns of the terminal.
    """
    tokens = any("token" in row for row in rows)
    number = max(3, *(len(str(row["row"])) for row in rows))
    token = min(WIDEST_TOKEN, max(5, *(cell_len(row.get("token", "")) for row in rows))) if tokens else -2
    room = width - number - 2 - token - 2 - len("sets")
    blocks: list[list[str]] = []
    left = 0
    for name, head in heads.items():
        places = [len(str(row["places"].get(name, ""))) for row in rows]
        need = 2 + max(min(WIDEST_NAME, cell_len(head)), *places)
        if not blocks or need > left:
            blocks.append([])
            left = room
        blocks[-1].append(name)
        left -= need
    return [_block(rows, {name: heads[name] for name in block}, tokens=tokens) for block in blocks]


def _block(rows: Sequence[Mapping[str, Any]], heads: Mapping[str, str], *, tokens: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("row", justify="right", no_wrap=True)
    if tokens:
        table.add_column("token", no_wrap=True, max_width=WIDEST_TOKEN)
    table.add_column("sets", justify="right", no_wrap=True)
    for head in heads.values():
        table.add_column(Text(head), justify="right", no_wrap=True, max_width=WIDEST_NAME)
    for row in rows:
        token = [Text(row.get("token", ""))] if tokens else []
        places = [str(row["places"].get(name, "")) for name in heads]
        table.add_row(str(row["row"]), *token, str(row["sets"]), *places)
    return table


def sentences(content: Mapping[str, Any]) -> list[str]:
    """Say which rows are in all sets, and how many are in some."""
    every, common, spread = content["rows"], content["in_all"], content["by_sets"]
    total = len(content["sets"])
    named = ", ".join(
        f"{row['row']} {row['token']}" if "token" in row else str(row["row"]) for row in common[:MOST_NAMED]
    )
    more = f", and {len(common) - MOST_NAMED:,} more" if len(common) > MOST_NAMED else ""
    lines = [
        f"{len(common):,} of {len(every):,} rows are in all {total} sets{': ' if common else ''}{named}{more}.",
    ]
    some = [f"{count:,} in {number}" for number, count in spread.items() if int(number) < total and count]
    if some:
        lines.append(f"Of the others, {', '.join(some)}.")
    return [*lines, *content["notes"]]


def print_overlap(console: Console, content: Mapping[str, Any], heads: Mapping[str, str], most: int) -> None:
    """Print the pairs, then the first `most` rows side by side, then what is common."""
    console.print(overlap_table(content["pairs"]))
    rows = content["rows"][:most]
    if rows:
        for table in side_by_side_tables(rows, heads, console.width):
            console.print()
            console.print(table)
        if len(rows) < len(content["rows"]):
            console.print(f"... and {len(content['rows']) - len(rows):,} more rows", markup=False)
        console.print("\nUnder each set: the place of the row in it, 1 for its first ticket.", markup=False)
    for line in sentences(content):
        console.print(line, markup=False)
