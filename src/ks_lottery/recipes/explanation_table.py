"""Table 3: the tickets with token, frequency, p, ranks by the other scores, and where their tokens occur."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from ks_lottery.config.choices import SPANS
from ks_lottery.recipes.over_seeds import places_of
from ks_lottery.recipes.paper import paper_table
from ks_lottery.recipes.system_comparison import differing_conditions
from ks_lottery.report.section import Column, Section
from ks_lottery.tickets.scan_sections import no_power

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ks_lottery.store.cells import FinishedCell

RANKED = ("cos", "absolute", "absolute-signed", "relative", "ratio", "kl")
"""Scores whose ranks are shown; the paper's column Absolute fits the signed reading."""

PAPER_COLUMNS = {
    "frequency": "frequency", "cos": "cos", "absolute-signed": "absolute", "relative": "relative", "ratio": "ratio", "kl": "kl",
}  # fmt: skip
"""Our column to the one of table 3 that it is compared with."""

MOST = 40
"""Tickets that a table shows."""


def explanation_tables(finished: Sequence[FinishedCell]) -> list[Section]:
    """Return for each model and pair the tickets of the first seed, and medians beside those of the paper."""
    sections: list[Section] = []
    for place, cells in places_of(finished).items():
        title = ", ".join(place)
        sections += [_tickets(f"{title}: tickets at p < {cells[0].about['alpha']:g}", cells), _medians(title, cells)]
    said = [
        "Ranks are rank / V by falling score, 1 / V for the most important; frequency: rank by count in the target side of the "
        "training text (the paper: 50,000 sentences of mC4). absolute-signed is the reading that fits the paper's Absolute.",
        "In the instruction: a row of the prompt template. Means, medians and counts are descriptive.",
    ]
    return [*sections, Section(title="How to read it", sentences=[*said, *differing_conditions(finished)])]


def _tickets(title: str, cells: Sequence[FinishedCell]) -> Section:
    first, seeds = cells[0].figures, len(cells)
    columns = [
        Column(title="row", form="d"), Column(title="token"), Column(title="frequency rank", form="place"),
        Column(title="p", form="pvalue"), *(Column(title=name, form=".4f") for name in RANKED),
        *(Column(title=f"in the {span}", form="integer") for span in SPANS), Column(title="seeds", form="integer"),
    ]  # fmt: skip
    of_seeds = [{row["row"] for row in cell.figures["rows"]} for cell in cells]
    rows: list[list[Any]] = [
        [
            row["row"], row["token"], row["frequency_rank"], row["log_pvalue"], *(row["ranks"][name] for name in RANKED),
            *(row["origin"][span] if "origin" in row else None for span in SPANS),
            sum(row["row"] in rows for rows in of_seeds),
        ]
        for row in first["rows"][:MOST]
    ]  # fmt: skip
    more = len(first["rows"]) - len(rows)
    sentences = [f"The first seed; seeds: in how many of {seeds} a row is a ticket."]
    sentences += [f"... and {more:,} more tickets"] if more else []
    for cell in cells:
        if not cell.figures["rows"]:
            power = cell.figures["power"]
            sentences.append(
                f"seed {cell.about['seed']}: no ticket. The largest D is {power['largest_statistic']:.4f}, and only "
                f"{power['critical_statistic']:.4f} or more passes{no_power(power)}."
            )
    if not rows:
        rows = [["none", "no ticket", *[None] * (len(columns) - 2)]]
    return Section(title=title, columns=columns, rows=rows, sentences=sentences, keys=2)


def _medians(title: str, cells: Sequence[FinishedCell]) -> Section:
    """Return the number of tickets and the median of each column, over the tickets of each seed, beside the paper's."""
    paper = paper_table("table3")
    columns = [Column(title="figure"), Column(title="ours"), Column(title="over seeds"), Column(title="paper, en-ca")]

    def shown(values: Sequence[float | None], form: str) -> list[str | None]:
        known = [value for value in values if value is not None]
        if not known:
            return [None, None]
        mean = sum(known) / len(known)
        return [f"{mean:{form}}", f"{min(known):{form}} to {max(known):{form}}" if len(known) > 1 else None]

    rows: list[list[Any]] = [
        ["tickets", *shown([float(len(cell.figures["rows"])) for cell in cells], ",.1f"), str(len(paper.rows))]
    ]
    of_template = [
        None if not cell.figures["rows"] or cell.figures["template_rows"] is None
        else cell.figures["template_rows"] / len(cell.figures["rows"])
        for cell in cells
    ]  # fmt: skip
    rows.append(["share of rows of the template", *shown(of_template, ".2f"), None])
    for name in ("frequency", *RANKED):
        form = ",.1f" if name == "frequency" else ".4f"
        medians = [_median(cell, name) for cell in cells]
        column = PAPER_COLUMNS.get(name)
        theirs = None
        if column is not None and paper.columns is not None:
            place = list(paper.columns).index(column)
            theirs = format(median(row["values"][place] for row in paper.rows), form)
        label = "frequency rank" if name == "frequency" else f"rank by {name}"
        rows.append([f"median {label}", *shown(medians, form), theirs])
    return Section(title=f"{title}: the tickets together", columns=columns, rows=rows)


def _median(cell: FinishedCell, name: str) -> float | None:
    values = [row["frequency_rank"] if name == "frequency" else row["ranks"][name] for row in cell.figures["rows"]]
    known = [value for value in values if value is not None]
    return median(known) if known else None
