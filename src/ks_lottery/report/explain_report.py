"""What `explain` prints: one line a ticket, as table 3 of the paper, and what ranks rows as the KS test does.

Must never compute a figure: it shows what `ks_lottery.tickets.explain` found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from ks_lottery.report.scan_report import pvalue

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

HEADS = {"cos": "cos", "absolute": "abs", "relative": "rel", "kl": "kl", "lca": "lca", "gradient": "grad"}
"""Scores that have a column, and its head. `ratio` ranks as `relative`, which stands for both."""


def tickets_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return one line a ticket."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    tokens = any("token" in row for row in rows)
    often = any("frequency" in row for row in rows)
    scores = [name for name in HEADS if rows and name in rows[0]["ranks"]]
    table.add_column("row", justify="right", no_wrap=True)
    if tokens:
        table.add_column("token", no_wrap=True, max_width=16)
    for name in ("p", "D", *(["freq."] if often else []), *(HEADS[name] for name in scores)):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        cells: list[Any] = [str(row["row"])]
        if tokens:
            cells.append(Text(row.get("token", "")))
        cells += [pvalue(row["log_pvalue"]), f"{row['statistic']:.4f}"]
        if often:
            cells.append(_place(row["frequency_rank"]) if row["frequency"] else "never")
        cells += ["-" if row["ranks"][name] is None else f"{row['ranks'][name]:.4f}" for name in scores]
        table.add_row(*cells)
    return table


def _place(rank: float) -> str:
    return f"{rank:,.0f}" if rank == int(rank) else f"{rank:,.1f}"


def agreement_table(agreement: Mapping[str, Mapping[str, Any]], tickets: int) -> Table:
    """Return one line a rival score: how it ranks what moved, and how many tickets it would have found."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("ranked by", no_wrap=True)
    for name in ("Spearman with KS", f"tickets among its first {tickets:,}"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, found in agreement.items():
        rho = "-" if found["spearman"] is None else f"{found['spearman']:+.3f}"
        table.add_row(name, rho, f"{found['shared']:,}")
    return table


def sentences(content: Mapping[str, Any]) -> list[str]:
    """Say what the columns are."""
    size, corpus = content["vocabulary"], content["corpus"]
    lines = [
        f"cos and what follows are rank / {size:,} among all rows, {1 / size:.2g} for the most important; rel stands for "
        "relative and ratio, whose ranks agree."
    ]
    if corpus is not None:
        lines.append(
            f"freq. is the rank of the token among {corpus['tokens']:,} tokens of {corpus['sentences']:,} sentences in "
            f"{corpus['text']}, 1 for the most frequent, ties averaged."
        )
    lines.append(f"Spearman's correlation is over the {content['moved']:,} rows that moved.")
    return lines


def print_explanation(console: Console, content: Mapping[str, Any], most: int) -> None:
    """Print what the tickets are, the first `most` of them line by line."""
    rows = content["rows"]
    if not rows:
        console.print("There is no ticket to explain: the file holds none.", markup=False)
        return
    if most:
        console.print(tickets_table(rows[:most]))
    if 0 < most < len(rows):
        console.print(f"... and {len(rows) - most:,} more", markup=False)
    console.print()
    console.print(agreement_table(content["agreement"], len(rows)))
    console.print()
    for line in [*sentences(content), *content["notes"]]:
        console.print(line, markup=False)
