"""How a certificate shows itself: the bound by small model, what the bound misses, and what is guaranteed."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from ks_lottery.report.section import Column, Section

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
        f"first positions of each sentence ({content['positions']:,} in all):"
    )
    columns, rows = _levels(content["levels"], content["tau"], rule)
    sentences = [
        READING.format(rule=SHORT[rule]), _range_sentence(content), *_worst_sentences(content["worst"][:examples])
    ]  # fmt: skip
    sections = [Section(title=heading, columns=columns, rows=rows, sentences=sentences)]
    if content["guarantees"]:
        sections.append(_guarantees(content["guarantees"]))
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
                bound["verified"],
                audit["accuracy"],
                level["prediction_accuracy"],
                level["agreement"],
                f"{audit['violations']} of {audit['positions']}",
            ]
        )
    return columns, rows


def _range_sentence(content: Mapping[str, Any]) -> str:
    """Say what the half gaps are and which alpha verifies every position."""
    low, high = content["half_gap_range"]
    full = content["full"][content["tau"]]
    if full["above"] is None:
        enough = "only alpha = 1 verifies every position"
    else:
        above = f"{full['above']:.3g}" if full["above"] < 0.999 else f"1 - {1 - full['above']:.1g}"
        enough = f"every position is verified at each alpha above {above} ({full['tickets']:,} tickets)"
    return f"Half gaps of the tuned model lie between {low:.3g} and {high:.3g}: {enough}."


def _worst_sentences(worst: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the worst examples, two lines each."""
    if not worst:
        return []
    lines = ["", "What the bound does not cover: certified, and answered differently, the surest first:"]
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


def _guarantees(guarantees: Sequence[Mapping[str, Any]]) -> Section:
    """Return the guarantees by model (at least so much, and in brackets what was observed), and what they speak of."""
    columns = [
        Column(title="guaranteed"), *(Column(title=f"{title} (seen)", align="right") for title in BOUNDED.values())
    ]  # fmt: skip
    names = list(dict.fromkeys(guarantee["model"] for guarantee in guarantees))
    rows: list[list[Any]] = []
    for name in names:
        own = {guarantee["bounded"]: guarantee for guarantee in guarantees if guarantee["model"] == name}
        # Rounded down: a bound must not look better than it is.
        cells = [f">= {int(own[b]['lower'] * 1000) / 1000:.3f} ({own[b]['observed']:.3f})" for b in BOUNDED]
        rows.append([name, *cells])
    last = [guarantee for guarantee in guarantees if guarantee["bounded"] == "all_agree"][-1]
    several = (
        f" Each of the {len(guarantees)} bounds fails with probability at most {last['delta']:g} by itself, not all at once; "
        "to pick a model by them, let certify choose."
    )
    sentences = [
        f"Calibration: {last['pool']['how']}.",
        f"all agree, of {last['model']}: {last['statement']}",
        "agreement: mean share of positions answered like the tuned model; accuracy: like the reference."
        + (several if len(names) > 1 else ""),
    ]
    return Section(columns=columns, rows=rows, sentences=sentences)


def _choice(choice: Mapping[str, Any]) -> Section:
    """Return the ticket sets in the order of testing."""
    columns = [
        Column(title="tickets", form="integer"),
        Column(title="loss seen", form=".4f"),
        Column(title="p", form=".2e"),
        Column(title="shown", align="right"),
    ]
    rows: list[list[Any]] = []
    for number, (size, observed, p) in enumerate(
        zip(choice["sizes"], choice["observed"], choice["pvalues"], strict=True)
    ):
        shown = "chosen" if number == choice["chosen"] else "yes" if number < choice["passed"] else "no"
        rows.append([size, observed, p, shown if number <= choice["passed"] else "not tested"])
    return Section(columns=columns, rows=rows, sentences=[choice["statement"]])
