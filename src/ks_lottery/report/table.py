"""The tables that a run prints, made from its summary alone.

Must never compute a figure that is not in the summary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from ks_lottery.report.certificate_table import print_certificate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

TITLES = {
    "original": "original model",
    "embed": "embed tuning",
    "partial": "partial tuning",
    "transfer": "partial transfer",
    "random": "random rows",
    "occurrence": "most frequent rows",
    "lca": "loss-change rows",
    "gradient": "gradient rows",
}
"""What each method is called on the screen."""

RIVALS = {
    "occurrence": "The rows that occur most",
    "lca": "The rows that lowered the loss most while embed tuning (lca)",
    "gradient": "The rows of largest summed gradient while embed tuning",
}
"""As many rows as there are tickets, chosen otherwise: how a sentence begins that compares them."""


def size(count: int) -> str:
    """Return a number of bytes for people."""
    amount, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            break
        amount /= 1000
    return f"{amount:.0f} {unit}" if unit in {"B", "kB"} else f"{amount:.1f} {unit}"


def methods_table(methods: Mapping[str, Any], confidence: float) -> Table:
    """Return the comparison of all methods."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("method")
    for name in ("trained", "ships", "accuracy", f"{confidence:.0%} interval", "loss", "chrF++"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, row in methods.items():
        table.add_row(
            TITLES.get(name, name),
            f"{row['trained_parameters']:,}",
            size(row["bytes"]) if row["bytes"] else "-",
            f"{row['accuracy']:.3f}",
            f"{row['interval'][0]:.3f}-{row['interval'][1]:.3f}",
            f"{row['loss']:.3f}",
            f"{row['chrf']:.1f}",
        )
    return table


def tickets_table(rows: list[Mapping[str, Any]], most: int = 15) -> Table:
    """Return the first tickets with their token strings, D and p."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("row", justify="right")
    table.add_column("token")
    for name in ("D", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows[:most]:
        table.add_row(str(row["row"]), Text(row["token"]), f"{row['statistic']:.4f}", f"{row['pvalue']:.2e}")
    return table


def findings(summary: Mapping[str, Any]) -> list[str]:
    """Say in sentences what the figures say, also where they speak against the method."""
    methods, power = summary["methods"], summary["scan"]
    lines: list[str] = []
    if power["rows_passing"] == 0:
        lines.append(
            f"No ticket: the largest D is {power['largest_statistic']:.4f}, and p < {power['alpha']:g} needs "
            f"{power['critical_statistic']:.4f}. The row that moved most moved {power['largest_spread']:.2f} of its own "
            "spread: the test had no power at this learning rate and number of steps; raise one of them."
        )
        return lines
    lines.append(
        f"{power['rows_passing']} of {power['rows_moved']:,} moved rows pass at p < {power['alpha']:g} "
        f"(D of at least {power['critical_statistic']:.4f}; the largest is {power['largest_statistic']:.4f})."
    )
    partial, random = (methods[name]["accuracy"] for name in ("partial", "random"))
    if random >= partial:
        lines.append(f"Random rows do as well as the tickets here: {random:.3f} against {partial:.3f}.")
    else:
        lines.append(f"The tickets do better than as many random rows: {partial:.3f} against {random:.3f}.")
    for name, title in RIVALS.items():
        rival = methods[name]["accuracy"]
        if rival > partial:
            overlap = methods[name]["interval"][0] <= methods["partial"]["interval"][1]
            close = " (their intervals overlap)" if overlap else ""
            lines.append(f"{title} do better than the tickets: {rival:.3f} against {partial:.3f}{close}.")
    return lines


def print_summary(console: Console, summary: Mapping[str, Any], tickets: list[Mapping[str, Any]], folder: str) -> None:
    """Print a run: methods, tickets, certificate, where everything lies and what to try next."""
    console.print()
    console.print(methods_table(summary["methods"], summary["confidence"]))
    console.print(
        f"\nmeasured on {summary['text']['test']} held-out pairs ({summary['positions']:,} target positions); "
        f"chrF++ on {summary['translations']} of them, too few to rank by",
        markup=False,
    )
    console.print()
    for line in findings(summary):
        console.print(line, markup=False)
    if tickets:
        console.print()
        console.print(tickets_table(tickets))
        if len(tickets) > 15:
            console.print(f"... and {len(tickets) - 15} more in {folder}/tickets.json", markup=False)
    console.print()
    print_certificate(console, summary["certificate"]["transfer"], "Certificate of the partial transfer")
    console.print(f"\nEverything lies in {folder}. Try next:", markup=False)
    for line in (
        f'ks-lottery translate {folder} "Your session has expired." --compare',
        f"ks-lottery export {folder}/partial --to peft adapter",
        f"ks-lottery export {folder}/partial --to merged model",
    ):
        console.print(f"  {line}", markup=False)
