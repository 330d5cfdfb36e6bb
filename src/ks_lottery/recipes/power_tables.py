"""Tables of the recipe `power`: at which rate, steps and batch embed tuning finds tickets, and advice for the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ks_lottery.recipes.certification_tables import AlphaLevel, levels_of
from ks_lottery.recipes.over_seeds import mean, places_of, spread
from ks_lottery.recipes.system_comparison import differing_conditions
from ks_lottery.report.forms import rounded_up
from ks_lottery.report.section import Column, Section
from ks_lottery.tuning.scale import Scale

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ks_lottery.store.cells import FinishedCell


@dataclass(frozen=True, kw_only=True)
class TrainedAt:
    """One learning rate, number of steps and batch, over all seeds.

    Parameters
    ----------
    rate, steps, batch
        The training.
    power
        Figures of the scan (`power_stage`), one a seed.
    level
        The transfer of its tickets against embed tuning.
    tuned, agreement
        Next-token accuracy of embed tuning; share of positions that the transfer answers like it; means over seeds.
    """

    rate: float
    steps: int
    batch: int
    power: Sequence[Mapping[str, Any]]
    level: AlphaLevel
    tuned: float
    agreement: float

    @property
    def scale(self) -> Scale:
        """How far the training can move a row, against what the test sees."""
        first = self.power[0]
        return Scale(learning_rate=self.rate, steps=self.steps, spread=first["spread"], width=first["width"])

    @property
    def reach(self) -> float:
        """The furthest that a row can move, in standard deviations of a row."""
        return self.scale.move / self.scale.spread if self.scale.spread else float("inf")

    @property
    def finds(self) -> bool:
        """Whether every seed finds a ticket."""
        return all(self.level.tickets)


def power_tables(finished: Sequence[FinishedCell]) -> list[Section]:
    """Return a table for each model and pair, and advice from what was measured."""
    sections: list[Section] = []
    for place, cells in places_of(finished).items():
        trainings = trainings_of(cells)
        sections += [_table(", ".join(place), trainings), _advice(", ".join(place), trainings)]
    said = [
        "reach: half the learning rate times the steps, over the median standard deviation of a row: the furthest that Adam "
        "moves a row under a cosine. short by: the factor by which moves are too small, measured with the first seed.",
        "agreement: share of positions that the transfer of the tickets answers like embed tuning, on half of the test text, "
        "first 20 positions. Figures are means over seeds and descriptive.",
    ]
    return [*sections, Section(title="How to read it", sentences=[*said, *differing_conditions(finished)])]


def trainings_of(cells: Sequence[FinishedCell]) -> list[TrainedAt]:
    """Return the trainings of one model and pair, in the order of their cells."""
    found: list[TrainedAt] = []
    for rate, steps, batch in dict.fromkeys(tuple(cell.about[name] for name in NAMES) for cell in cells):
        own = [cell for cell in cells if tuple(cell.about[name] for name in NAMES) == (rate, steps, batch)]
        certified = [cell for cell in own if cell.about["figure"] == "certificate"]
        alpha = certified[0].figures["levels"][0]["alpha"]
        found.append(
            TrainedAt(
                rate=rate, steps=steps, batch=batch,
                power=[cell.figures for cell in own if cell.about["figure"] == "power"],
                level=levels_of(certified, "theorem", [alpha])[0],
                tuned=mean([cell.figures["tuned_accuracy"] for cell in certified]),
                agreement=mean([cell.figures["levels"][0]["agreement"] for cell in certified]),
            )
        )  # fmt: skip
    return found


NAMES = ("rate", "steps", "batch")


def _table(title: str, trainings: Sequence[TrainedAt]) -> Section:
    columns = [
        Column(title="learning rate", form="g"), Column(title="steps", form="integer"), Column(title="batch", form="integer"),
        Column(title="reach", form=".3g"), Column(title="tickets", form=",.1f"), Column(title="over seeds", form=",.0f"),
        Column(title="largest D", form=".4f"), Column(title="D that passes", form=".4f"), Column(title="short by", form=".3g"),
        Column(title="accuracy, embed tuning", form=".4f"), Column(title="transfer", form=".4f"),
        Column(title="original", form=".4f"), Column(title="agreement", form=".4f"),
    ]  # fmt: skip
    rows: list[list[Any]] = []
    for one in trainings:
        tickets = one.level.tickets
        rows.append(
            [
                one.rate, one.steps, one.batch, one.reach, mean(tickets) if any(tickets) else "none",
                spread(tickets),
                mean([power["largest_statistic"] for power in one.power]), one.scale.critical,
                one.power[0]["needed"], one.tuned, one.level.predicted, one.level.original, one.agreement,
            ]
        )  # fmt: skip
    return Section(
        title=f"{title}: embed tuning at each learning rate, steps and batch", columns=columns, rows=rows, keys=3
    )


def _advice(title: str, trainings: Sequence[TrainedAt]) -> Section:
    """Say what this model needs: its rows, and the least training that found tickets."""
    scale = trainings[0].scale
    sentences = [
        f"Rows have d = {scale.width:,} coordinates with a standard deviation of {scale.spread:.3g} (median), and a row passes "
        f"p < 0.05 with D of {scale.critical:.4f} or more."
    ]
    finding = [one for one in trainings if one.finds]
    missing = [one for one in trainings if not one.finds]
    if finding:
        least = min(finding, key=lambda one: one.reach)
        best = max(finding, key=lambda one: (one.agreement, -one.reach))
        sentences += [
            f"The least training that finds tickets with every seed: {_named(least)}, which can move a row by "
            f"{rounded_up(least.reach, 2)} standard deviations.",
            f"The tickets that agree most with embed tuning ({best.agreement:.3f} of positions): those of {_named(best)}; "
            "descriptive.",
        ]
    if missing:
        most = max(missing, key=lambda one: one.reach)
        sentences.append(
            f"{len(missing)} of {len(trainings)} trainings find no ticket with some seed; the one that reaches furthest: "
            f"{_named(most)}, {rounded_up(most.reach, 2)} standard deviations."
        )
    if not finding:
        sentences.append(
            "No training finds tickets with every seed: give a larger learning rate or more steps. With "
            f"{max(one.steps for one in trainings):,} steps, theory asks for a learning rate of "
            f"{_least_rate(max(trainings, key=lambda one: one.steps))} at the least."
        )
    sentences.append("Measured on this model and text; other texts, models and batches need their own measurement.")
    return Section(title=f"{title}: advice", sentences=sentences)


def _least_rate(one: TrainedAt) -> str:
    return rounded_up(one.scale.least_rate, 2)


def _named(one: TrainedAt) -> str:
    return f"learning rate {one.rate:g}, {one.steps:,} steps of {one.batch}"
