"""A certificate on the terminal: the bound by small model, what it misses, and what is guaranteed, never one for the other.

Must never compute a figure that is not in the certificate.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

READING = (
    "certified: share of positions that {rule} says the small model answers like the tuned one and rightly; "
    "small model: share that it does answer rightly; violated: certified positions that it answers differently. "
    "The bound holds under the theorem's assumptions and guarantees nothing for a deep network: that is what the last "
    "column counts."
)
"""How the columns are read."""

RULES = {
    "theorem": "theorem 2",
    "algorithm1": "algorithm 1 as printed",
    "both": "original and tuned agree (our reading of table 5)",
}
"""What each rule is called."""

SHORT = {"theorem": "theorem 2", "algorithm1": "algorithm 1", "both": "the rule"}
"""The same inside a sentence."""


def certificate_table(levels: Sequence[Mapping[str, Any]], tau: str, rule: str = "theorem") -> Table:
    """Return the certificate by small model, under one rule and one kind of tau."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    selected = all(level["alpha"] is not None for level in levels)
    table.add_column("alpha" if selected else "model", justify="right" if selected else "left", no_wrap=True)
    for name in ("tickets", "tau", "verified", "certified", "small model", "agrees", "violated"):
        table.add_column(name, justify="right", no_wrap=True)
    for level in levels:
        bound = level["bounds"].get(tau) or level["bounds"]["empirical"]
        audit = bound["rules"][rule]
        table.add_row(
            f"{level['alpha']:g}" if selected else level["name"],
            f"{level['tickets']:,}",
            f"{bound['tau']:.4f}",
            f"{bound['verified']:.1%}",
            f"{audit['accuracy']:.3f}",
            f"{level['prediction_accuracy']:.3f}",
            f"{level['agreement']:.3f}",
            f"{audit['violations']} of {audit['positions']}",
        )
    return table


def print_certificate(
    console: Console, certificate: Mapping[str, Any], title: str, *, rule: str = "theorem", examples: int = 0
) -> None:
    """Print bound, audit and guarantees of a certificate.

    Parameters
    ----------
    examples
        How many of the worst examples to show.
    """
    console.print(
        f"{title}, {RULES[rule]}, tau {certificate['tau']}, "
        f"first positions of each sentence ({certificate['positions']:,} in all):",
        markup=False,
    )
    console.print(certificate_table(certificate["levels"], certificate["tau"], rule))
    console.print(READING.format(rule=SHORT[rule]), markup=False)
    for line in [*range_lines(certificate), *worst_lines(certificate["worst"][:examples])]:
        console.print(line, markup=False)
    if certificate["guarantees"]:
        console.print()
        console.print(guarantees_table(certificate["guarantees"]))
        for line in guarantee_lines(certificate["guarantees"]):
            console.print(line, markup=False)
    if certificate["choice"] is not None:
        console.print()
        console.print(choice_table(certificate["choice"]))
        console.print(certificate["choice"]["statement"], markup=False)


def range_lines(certificate: Mapping[str, Any]) -> list[str]:
    """Say what the half gaps are and which alpha verifies every position."""
    low, high = certificate["half_gap_range"]
    full = certificate["full"][certificate["tau"]]
    if full["above"] is None:
        enough = "only alpha = 1 verifies every position"
    else:
        above = f"{full['above']:.3g}" if full["above"] < 0.999 else f"1 - {1 - full['above']:.1g}"
        enough = f"every position is verified at each alpha above {above} ({full['tickets']:,} tickets)"
    return [f"Half gaps of the tuned model lie between {low:.3g} and {high:.3g}: {enough}."]


COLUMNS = {"all_agree": "all agree", "agreement": "agreement", "accuracy": "accuracy"}
"""What each guarantee bounds, as a column."""


def guarantees_table(guarantees: Sequence[Mapping[str, Any]]) -> Table:
    """Return the guarantees by model: at least so much, and in brackets what was observed."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("guaranteed")
    for title in COLUMNS.values():
        table.add_column(f"{title} (seen)", justify="right", no_wrap=True)
    for name in dict.fromkeys(one["model"] for one in guarantees):
        own = {one["bounded"]: one for one in guarantees if one["model"] == name}
        # Rounded down: a bound must not look better than it is.
        cells = [f">= {int(own[b]['lower'] * 1000) / 1000:.3f} ({own[b]['observed']:.3f})" for b in COLUMNS]
        table.add_row(name, *cells)
    return table


def guarantee_lines(guarantees: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say what the guarantees speak of, once for all of them, and how many hold at once."""
    last = [one for one in guarantees if one["bounded"] == "all_agree"][-1]
    models = len({one["model"] for one in guarantees})
    several = (
        f" Each of the {len(guarantees)} bounds fails with probability at most {last['delta']:g} by itself, not all at once; "
        "to pick a model by them, use --choose."
    )
    return [
        f"Calibration: {last['pool']['how']}.",
        f"all agree, of {last['model']}: {last['statement']}",
        "agreement: mean share of positions answered like the tuned model; accuracy: like the reference."
        + (several if models > 1 else ""),
    ]


def choice_table(choice: Mapping[str, Any]) -> Table:
    """Return the ticket sets in the order of testing."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("tickets", "loss seen", "p", "shown"):
        table.add_column(name, justify="right", no_wrap=True)
    rows = zip(choice["sizes"], choice["observed"], choice["pvalues"], strict=True)
    for number, (size, observed, p) in enumerate(rows):
        shown = "chosen" if number == choice["chosen"] else "yes" if number < choice["passed"] else "no"
        table.add_row(f"{size:,}", f"{observed:.4f}", f"{p:.2e}", shown if number <= choice["passed"] else "not tested")
    return table


def worst_lines(worst: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the worst examples, two lines each."""
    if not worst:
        return []
    lines = ["", "What the bound does not cover: certified, and answered differently, the surest first:"]
    for one in worst:
        name, answer = next(iter(one["answers"].items()))
        more = f" and {len(one['answers']) - 1} more" if len(one["answers"]) > 1 else ""
        source = textwrap.shorten(one["source"], 60, placeholder="...")
        lines += [
            f"  {source!r}, after {one['so_far'][-40:]!r}:",
            f"    tuned and reference {one['wanted']}, half gap {one['half_gap']:.3f} > tau {one['taus'][name]:.3f}; "
            f"small model {name}{more} answers {answer}",
        ]
    return lines
