"""How a certificate shows itself: the bound by small model, what the bound misses, and what is guaranteed."""

from __future__ import annotations

import textwrap
from decimal import ROUND_DOWN, Context, Decimal
from typing import TYPE_CHECKING, Any

from ks_lottery.certification.units import counted_words
from ks_lottery.report.forms import rounded_down, rounded_up
from ks_lottery.report.section import Column, Section

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

READING = (
    "tau: bound on the change of the tuned model's probabilities by the rows that the small model lacks; verified: share of "
    "positions whose half gap is above tau; certified: share of positions where {rule} says that the small model gives the "
    "tuned model's answer, and this answer is correct; small model: share that it really answers correctly; agrees: share "
    "that it answers like the tuned model; violated: certified positions that it answers differently.",
    "The bound holds under the theorem's assumptions. It guarantees nothing for a deep network. The last column counts how "
    "often it failed here.",
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

BOUNDED = {"all_agree": "all agree", "agreement": "agreement", "accuracy": "accuracy"}
"""What each guarantee bounds, as a column."""


def certificate_sections(
    content: Mapping[str, Any], title: str, *, rule: str = "theorem", examples: int = 0
) -> list[Section]:
    """Return bound, audit and guarantees of a certificate.

    Parameters
    ----------
    content
        `Certificate.as_dict`.
    title
        What the certificate is of.
    rule
        Which positions a tau certifies: one of `RULES`.
    examples
        How many of the worst examples to show.
    """
    heading = (
        f"{title}, {RULES[rule]}, tau {content['tau']}, "
        f"first {content['counted']['bound']} positions of each sentence ({content['positions']:,} in all):"
    )
    columns, rows = _levels(content["levels"], content["tau"], rule)
    sentences = [
        *(line.format(rule=SHORT[rule]) for line in READING),
        _range_sentence(content, rule),
        *_worst_sentences(content["worst"][:examples]),
    ]
    sections = [Section(title=heading, columns=columns, rows=rows, sentences=sentences)]
    if content["guarantees"]:
        tickets = {level["name"]: level["tickets"] for level in content["levels"]}
        sections.append(_guarantees(content["guarantees"], tickets))
    if content["choice"] is not None:
        sections.append(_choice(content["choice"]))
    return sections


def _levels(levels: Sequence[Mapping[str, Any]], tau: str, rule: str) -> tuple[list[Column], list[list[Any]]]:
    """Return the table by small model, under one rule and one kind of tau."""
    selected = all(level["alpha"] is not None for level in levels)
    columns = [
        Column(title="alpha", form="g") if selected else Column(title="model"),
        Column(title="tickets", form="integer"),
        Column(title="tau", form=".4f"),
        Column(title="verified", form="percent"),
        *(Column(title=name, form=".3f") for name in ("certified", "small model", "agrees")),
        Column(title="violated", align="right"),
    ]
    rows: list[list[Any]] = []
    for level in levels:
        bound = level["bounds"].get(tau) or level["bounds"]["empirical"]
        audit = bound["rules"][rule]
        rows.append(
            [
                level["alpha"] if selected else level["name"],
                level["tickets"],
                bound["tau"],
                audit["verified"],
                audit["accuracy"],
                level["prediction_accuracy"],
                level["agreement"],
                f"{audit['violations']} of {audit['positions']}",
            ]
        )
    return columns, rows


def _range_sentence(content: Mapping[str, Any], rule: str) -> str:
    """Say what the half gaps are that the rule goes by, and which alpha verifies every position."""
    model, prefix = ("tuned", "") if rule == "theorem" else ("original", "original_")
    low, high = content[f"{prefix}half_gap_range"]
    full = content[f"{prefix}full"][content["tau"]]
    if full["above"] is None:
        enough = "Only alpha = 1 verifies every position"
    else:
        # Where a ticket set is chosen, its number of tickets is the one that counts.
        tickets = "" if content["choice"] is not None else f" ({full['tickets']:,} tickets)"
        enough = f"Every position is verified at each alpha above {_up(full['above'])}{tickets}"
    return (
        f"Half of the gap between the two most probable tokens ranges from {low:.3g} to {high:.3g} in the {model} model. "
        f"{enough}."
    )


def _up(alpha: float) -> str:
    """Return three digits that are not below alpha; near 1 as a difference of one digit.

    >>> _up(0.012341), _up(0.5), _up(1 - 2**-14), _up(0.0)
    ('0.0124', '0.5', '1 - 6e-05', '0')
    """
    gap = Decimal(1) - Decimal(alpha)
    if alpha >= 0.999:
        return f"1 - {float(gap.normalize(Context(prec=1, rounding=ROUND_DOWN))):.1g}"
    return rounded_up(alpha, 3)


def _worst_sentences(worst: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the worst examples, two lines each."""
    if not worst:
        return []
    lines = [
        "",
        "Certified positions where the bound failed (the small model answers differently), most confident first:",
    ]
    for example in worst:
        name, answer = next(iter(example["answers"].items()))
        more = f" and {len(example['answers']) - 1} more" if len(example["answers"]) > 1 else ""
        source = textwrap.shorten(example["source"], 60, placeholder="...")
        lines += [
            f"  {source!r}, after {example['so_far'][-40:]!r}:",
            f"    tuned and reference {example['wanted']}, half gap {example['half_gap']:.3f} > tau "
            f"{example['taus'][name]:.3f}; small model {name}{more} answers {answer}",
        ]
    return lines


def _guarantees(guarantees: Sequence[Mapping[str, Any]], tickets: Mapping[str, int]) -> Section:
    """Return the guarantees by model (at least so much, and in brackets what was observed), and what they speak of."""
    columns = [
        Column(title="guaranteed"), *(Column(title=f"{title} (seen)", align="right") for title in BOUNDED.values())
    ]  # fmt: skip
    names = list(dict.fromkeys(guarantee["model"] for guarantee in guarantees))
    rows: list[list[Any]] = []
    for name in names:
        own = {guarantee["bounded"]: guarantee for guarantee in guarantees if guarantee["model"] == name}
        cells = [f">= {rounded_down(own[b]['lower'], 3)} ({own[b]['observed']:.3f})" for b in BOUNDED]
        rows.append([name, *cells])
    example = spelled_out(guarantees, tickets)
    several = (
        f" Each of the {len(guarantees)} bounds alone fails with probability at most {example['delta']:g}; several together "
        "may fail more often. To choose a model, use ks-lottery certify --choose."
    )
    sentences = [
        f"Calibration: {example['pool']['how']}.",
        f"{BOUNDED[example['bounded']]}, of {example['model']} ({tickets[example['model']]:,} tickets): {example['statement']}",
        f"agreement: mean share of {counted_words(example['positions'])['the']} of a sentence answered like the tuned model; "
        "accuracy: like the reference." + (several if len(names) > 1 else ""),
    ]
    return Section(columns=columns, rows=rows, sentences=sentences)


def spelled_out(guarantees: Sequence[Mapping[str, Any]], tickets: Mapping[str, int]) -> Mapping[str, Any]:
    """Return the guarantee whose statement is shown: of the smallest ticket set that any guarantee above 0 holds for.

    Of those of one set the first in the order of `BOUNDED` that is above 0; where no set has one, the first of the smallest. A
    model without tickets is the original, and comes last.

    Parameters
    ----------
    tickets
        Number of tickets of each model.
    """
    place = {bounded: number for number, bounded in enumerate(BOUNDED)}
    return min(
        guarantees,
        key=lambda one: (one["lower"] <= 0, tickets[one["model"]] == 0, tickets[one["model"]], place[one["bounded"]]),
    )


def _choice(choice: Mapping[str, Any]) -> Section:
    """Return the ticket sets in the order of testing."""
    columns = [
        Column(title="tickets", form="integer"),
        Column(title="loss seen", form=".4f"),
        Column(title="p", form=".2e"),
        Column(title="result", align="right"),
    ]
    rows: list[list[Any]] = []
    for number, (size, observed, p) in enumerate(
        zip(choice["sizes"], choice["observed"], choice["pvalues"], strict=True)
    ):
        shown = "chosen" if number == choice["chosen"] else "passed" if number < choice["passed"] else "failed"
        rows.append([size, observed, p or "below 1e-300", shown if number <= choice["passed"] else "not tested"])
    return Section(columns=columns, rows=rows, sentences=[choice["statement"]])
