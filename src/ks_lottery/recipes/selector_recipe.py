"""The recipe `selectors`: which rule chooses the rows that are worth most, trained alone and transferred."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ks_lottery.recipes.stage import Cell, Recipe, Stage
from ks_lottery.recipes.study_stages import (
    gradients_stage,
    measure_stage,
    rows_stage,
    scan_stage,
    transfer_stage,
    tune_stage,
)
from ks_lottery.recipes.system_comparison import claim, compare_systems, holm
from ks_lottery.report.section import Column, Section

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ks_lottery.recipes.recipe_scale import RecipeScale
    from ks_lottery.recipes.study import Study
    from ks_lottery.stats.crossed import CrossedDifference
    from ks_lottery.store.cells import FinishedCell

RULES = ("ks", "gradient", "random-reachable", "occurrence")
"""Rules that choose rows, by their names in `ks_lottery.config.choices.SELECTORS`; ``gradient`` is measured in one pass at the
original model."""

BASELINE = "occurrence"
"""Rule that the others are compared with: counting."""

WAYS = ("partial", "transfer")
"""How chosen rows are used: trained alone, or their values taken from embed tuning."""

PRIMARY_RULES, PRIMARY_SIZE, PRIMARY_WAY = ("gradient",), 18, "partial"
"""Comparisons with `BASELINE` that are fixed beforehand; all others are descriptive."""


def selector_recipe(studies: Sequence[Study], scale: RecipeScale) -> Recipe:
    """Return the recipe for some models and pairs of languages."""
    stages: dict[str, Stage] = {}
    cells: list[Cell] = []
    inputs: dict[str, str] = {}

    def known(stage: Stage) -> Stage:
        return stages.setdefault(stage.name, stage)

    def measure(study: Study, patch: Stage | None, **about: Any) -> None:
        stage = known(measure_stage(study, patch))
        cells.append(Cell(stage=stage.name, about={"model": study.name, "pair": study.pair, **about}))

    for study in studies:
        inputs |= study.inputs
        measure(study, None, system="original", size=None, way=None, seed=None)
        for seed in range(scale.seeds):
            embed = known(tune_stage(study, "embed", seed))
            measure(study, embed, system="embed", size=None, way=None, seed=seed)
            for size in scale.sizes:
                for rule in RULES:
                    rows = known(rows_stage(study, rule, size, seed, _basis(study, rule, embed, known)))
                    partial = known(tune_stage(study, "partial", seed, rows=rows))
                    measure(study, partial, system=rule, size=size, way="partial", seed=seed)
                    moved = known(transfer_stage(study, embed, rows))
                    measure(study, moved, system=rule, size=size, way="transfer", seed=seed)
    return Recipe(
        name="selectors", stages=tuple(stages.values()), inputs=inputs, cells=tuple(cells),
        report=lambda finished: selector_sections(finished, resamples=scale.resamples),
    )  # fmt: skip


def _basis(study: Study, rule: str, embed: Stage, known: Any) -> Stage | None:
    if rule == "ks":
        return known(scan_stage(study, embed))
    return known(gradients_stage(study)) if rule == "gradient" else None


@dataclass(frozen=True, kw_only=True)
class _Row:
    """A row of a table: one system over all seeds, compared with counting as many rows used in the same way."""

    system: str
    size: int | None
    way: str | None
    cells: Sequence[FinishedCell]
    accuracy: CrossedDifference | None = None
    loss: CrossedDifference | None = None


def selector_sections(finished: Sequence[FinishedCell], *, resamples: int = 10_000) -> list[Section]:
    """Return a table for each model and pair, and what the comparisons that were fixed beforehand show.

    Parameters
    ----------
    finished
        The cells, those of a system in the order of their seeds.
    resamples
        Resamples of seeds and sentences behind each interval.
    """
    sections: list[Section] = []
    primary: dict[str, CrossedDifference] = {}
    places = dict.fromkeys((cell.about["model"], cell.about["pair"]) for cell in finished)
    for model, pair in places:
        rows = _rows(
            [cell for cell in finished if (cell.about["model"], cell.about["pair"]) == (model, pair)], resamples
        )
        sections.append(_table(f"{model}, {pair}", rows))
        for row in rows:
            if row.system in PRIMARY_RULES and (row.size, row.way) == (PRIMARY_SIZE, PRIMARY_WAY) and row.accuracy:
                primary[f"{row.system} at {PRIMARY_SIZE} rows on {model}, {pair}"] = row.accuracy
    return [*sections, Section(title="What the tables say", sentences=_sentences(finished, primary))]


def _rows(cells: Sequence[FinishedCell], resamples: int) -> list[_Row]:
    systems: dict[tuple[Any, ...], list[FinishedCell]] = {}
    for cell in cells:
        systems.setdefault((cell.about["system"], cell.about["size"], cell.about["way"]), []).append(cell)
    rows: list[_Row] = []
    for (system, size, way), group in systems.items():
        baseline = systems.get((BASELINE, size, way))
        compared: Mapping[str, CrossedDifference] = {}
        if baseline is not None and system != BASELINE:
            compared = {
                metric: compare_systems(group, baseline, metric, resamples=resamples) for metric in ("accuracy", "loss")
            }
        rows.append(_Row(system=system, size=size, way=way, cells=group, **compared))
    return rows


def _table(title: str, rows: Sequence[_Row]) -> Section:
    columns = [
        Column(title="system"), Column(title="way"), Column(title="rows", form="integer"), Column(title="bytes", form="bytes"),
        Column(title="accuracy", form=".4f"), Column(title="over seeds", form="interval"), Column(title="loss", form=".4f"),
        Column(title="accuracy less occurrence", form="+.4f"), Column(title="95% interval", form="+.4f"),
        Column(title="loss less occurrence", form="+.4f"), Column(title="95% interval of loss", form="+.4f"),
    ]  # fmt: skip
    values: list[list[Any]] = []
    for row in rows:
        accuracies = [cell.figures["accuracy"] for cell in row.cells]
        values.append(
            [
                row.system, row.way, row.cells[0].figures["rows"], _mean(row.cells, "bytes"), _mean(row.cells, "accuracy"),
                (min(accuracies), max(accuracies)) if len(accuracies) > 1 else None, _mean(row.cells, "loss"),
                *_pair(row.accuracy), *_pair(row.loss),
            ]
        )  # fmt: skip
    return Section(title=title, columns=columns, rows=values, keys=3)


def _mean(cells: Sequence[FinishedCell], name: str) -> float:
    return sum(cell.figures[name] for cell in cells) / len(cells)


def _pair(difference: CrossedDifference | None) -> tuple[float | None, tuple[float, float] | None]:
    return (None, None) if difference is None else (difference.estimate, (difference.low, difference.high))


def _sentences(finished: Sequence[FinishedCell], primary: Mapping[str, CrossedDifference]) -> list[str]:
    seeds = len({cell.about["seed"] for cell in finished} - {None})
    adjusted = holm(primary)
    sentences = [claim(name, f"{BASELINE}", difference, adjusted[name]) for name, difference in primary.items()]
    resampled = "seeds and sentences are resampled crossed" if seeds > 1 else "one seed: sentences alone are resampled"
    sentences.append(
        f"Each difference is paired by seed and sentence, with its 95% interval; {resampled}. "
        + ("All other differences are descriptive." if primary else "All differences are descriptive.")
    )
    if seeds < 3:
        drawn = "one draw" if seeds == 1 else f"{seeds} draws"
        sentences.append(f"Random rows are {drawn} here; a comparison with chance needs at least 3 seeds.")
    conditions = {str(sorted(cell.conditions.items(), key=str)) for cell in finished}
    if len(conditions) > 1:
        sentences.append(
            f"The cells were computed under {len(conditions)} different conditions (threads, device or versions)."
        )
    return sentences
