"""What `alike` prints: how many rows two tunings left alike, at each alpha, and those that differ most.

Must never call rows equal that the test merely cannot tell apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from ks_lottery.report.scan_report import pvalue

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console


def levels_table(levels: Sequence[Mapping[str, Any]]) -> Table:
    """Return one line an alpha, as table 6 of the paper."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("alpha", "critical D", "compared", "changed", "unchanged"):
        table.add_column(name, justify="right", no_wrap=True)
    for level in levels:
        critical = level["critical_statistic"]
        table.add_row(
            f"{level['alpha']:g}",
            "-" if critical > 1 else f"{critical:.4f}",
            f"{level['compared']:,}",
            f"{level['changed']:,}",
            f"{level['unchanged']:.3f}",
        )
    return table


def rows_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return one line a row, with its token where that is known."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    tokens = any("token" in row for row in rows)
    table.add_column("row", justify="right", no_wrap=True)
    if tokens:
        table.add_column("token", no_wrap=True, max_width=24)
    for name in ("k", "D", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        token = [Text(row.get("token", ""))] if tokens else []
        table.add_row(str(row["row"]), *token, str(row["count"]), f"{row['statistic']:.4f}", pvalue(row["log_pvalue"]))
    return table


def sentences(content: Mapping[str, Any]) -> list[str]:
    """Say what was compared with what, and what was not."""
    compared, apart = content["compared"], content["not_compared"]
    lines = [
        f"{compared:,} rows of the {content['side']} embedding compared, {content['width']:,} coordinates each: values of "
        "one tuning against those of the other."
    ]
    named = {
        "only_embed": "only the first patch changes",
        "only_partial": "only the second patch changes",
        "in_neither": "neither patch changes",
    }
    left = [f"{apart[name]:,} that {words}" for name, words in named.items() if apart[name]]
    if left:
        lines.append(f"Not compared: {', '.join(left)}.")
    lines.append(
        "A row counts as changed when p < alpha; the share of the others is that of the paper's table 6. "
        "Unchanged means that the test sees no difference at this width."
    )
    return lines


def print_alike(console: Console, content: Mapping[str, Any], most: int) -> None:
    """Print a comparison of two tunings, with the `most` rows that differ most."""
    console.print(levels_table(content["levels"]))
    console.print()
    for line in sentences(content):
        console.print(line, markup=False)
    if most:
        console.print()
        console.print(rows_table(content["rows"][:most]))
    if 0 < most < len(content["rows"]):
        console.print(f"... and {len(content['rows']) - most:,} more that differ less", markup=False)
