"""What a scan prints: the units that moved most, and whether the test could see anything.

Must never say "0 tickets" without saying why.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console


def pvalue(log_p: float) -> str:
    """Return a p-value for people, also where it underflows.

    >>> pvalue(math.log(0.05)), pvalue(-1000.0), pvalue(0.0)
    ('5.00e-02', '5.08e-435', '1.00e+00')
    """
    exponent = math.floor(log_p / math.log(10))
    mantissa = math.exp(log_p - exponent * math.log(10))
    if mantissa >= 9.995:
        mantissa, exponent = 1.0, exponent + 1
    return f"{mantissa:.2f}e{exponent:+03d}"


def top_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return the units with the smallest p."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    several = len({row["tensor"] for row in rows}) > 1
    tokens = any(row.get("token") for row in rows)
    if several:
        table.add_column("tensor")
    table.add_column("row", justify="right", no_wrap=True)
    if tokens:
        table.add_column("token")
    for name in ("k", "D", "p", "changed", "L2", "largest", "move/spread", "cos", "kl"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        cells: list[Any] = [row["tensor"]] if several else []
        cells.append(str(row["row"]))
        if tokens:
            cells.append(Text(row.get("token", "")))  # a token such as [/INST] is no markup
        cells += [str(row["count"]), f"{row['statistic']:.4f}", pvalue(row["log_pvalue"]), str(row["moved"])]
        cells += [_short(row[name]) for name in ("distance", "largest", "spread", "cos", "kl")]
        table.add_row(*cells)
    return table


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


MOST_NAMED = 8
"""Rows of one side alone that are named on the screen; ``--json`` has them all."""


def sentences(summary: Mapping[str, Any], only: Mapping[str, Sequence[tuple[int, str]]] | None = None) -> list[str]:
    """Say what was compared, how many units pass at each alpha, and whether the test had power at all."""
    kinds = " and ".join(summary["compared_as"])
    what = f"{summary['units']:,} units of {summary['tensors']} tensor(s), compared as {kinds}"
    lines = [f"{what}; {summary['rows_moved']:,} moved."]
    for side, rows in (("base", summary["removed"]), ("tuned", summary["added"])):
        lines += [
            f"{tensor}: {count:,} rows stand in {side} alone and were not compared{_named((only or {}).get(side, ()))}."
            for tensor, count in rows.items()
        ]
    for side in ("base", "tuned"):
        names = summary[f"only_in_{side}"]
        if names:
            lines.append(f"{len(names)} tensor(s) stand in {side} alone, such as {names[0]}.")
    if not summary["rows_moved"]:
        return [*lines, "Nothing changed."]
    if summary["correction"] != "none":
        lines.append(f"p-values are corrected by {summary['correction']} for all {summary['units']:,} units.")
    passing = "; ".join(
        f"{level['rows_passing']:,} pass p < {level['alpha']:g} (D of {level['critical_statistic']:.4f})"
        for level in summary["levels"]
    )
    largest, spread, needed = summary["largest_statistic"], summary["largest_spread"], summary["needed"]
    lines.append(f"{passing}. The largest D is {largest:.4f}, the largest move {spread:.3g} of a unit's own spread.")
    if not summary["rows_passing"]:
        reason = (
            "the test had no power at this scale: the moves, and so about lr x steps, would have to be "
            f"{needed:.2g} times as large"
            if needed is not None and needed > 1
            else "the moves left every unit's distribution as it was, or the correction asks for more"
        )
        lines.append(f"Nothing passes p < {summary['alpha']:g}: {reason}.")
    return lines


def _named(rows: Sequence[tuple[int, str]]) -> str:
    named = ", ".join(f"{row} {token}" for row, token in rows[:MOST_NAMED])
    return f": {named}{', ...' if len(rows) > MOST_NAMED else ''}" if rows else ""


def print_scan(
    console: Console,
    summary: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    only: Mapping[str, Sequence[tuple[int, str]]],
) -> None:
    """Print a scan; `only` has the rows that one side alone has, with their token strings."""
    if rows:
        console.print(top_table(rows))
        console.print()
    for line in sentences(summary, only):
        console.print(line, markup=False)
