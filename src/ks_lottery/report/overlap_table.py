"""How much sets of tickets share, pair by pair.

Must never compute a figure: it shows what `ks_lottery.tickets.overlap` found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def overlap_table(pairs: Sequence[Mapping[str, Any]]) -> Table:
    """Return one line a pair of sets."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("one", "other"):
        table.add_column(name)
    for name in ("rows", "rows", "shared", "Jaccard"):
        table.add_column(name, justify="right", no_wrap=True)
    for pair in pairs:
        sizes = [f"{size:,}" for size in pair["sizes"]]
        table.add_row(pair["one"], pair["other"], *sizes, f"{pair['shared']:,}", f"{pair['jaccard']:.3f}")
    return table
