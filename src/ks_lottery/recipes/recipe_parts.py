"""Stages and cells of a recipe of scores while it is built, and the sets of rows that its systems use."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ks_lottery.recipes.measure_stages import measure_stage
from ks_lottery.recipes.stage import Cell, Recipe, Stage
from ks_lottery.recipes.study_stages import rows_stage, scan_stage, tune_stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ks_lottery.recipes.recipe_scale import RecipeScale
    from ks_lottery.recipes.study import Study
    from ks_lottery.report.chart import Chart
    from ks_lottery.report.section import Section
    from ks_lottery.store.cells import FinishedCell


def below(alpha: float) -> str:
    """Return what a set of rows with p in [0, alpha) is called.

    >>> below(0.05)
    'p < 0.05'
    """
    return f"p < {alpha:g}"


def at_most(size: int) -> str:
    """Return what a set of the first rows by ascending p is called.

    >>> at_most(800)
    'at most 800'
    """
    return f"at most {size}"


@dataclass(kw_only=True)
class RecipeParts:
    """Stages and cells of a recipe while it is built.

    Parameters
    ----------
    scale
        Size of the recipe.
    """

    scale: RecipeScale
    stages: dict[str, Stage] = field(default_factory=dict[str, Stage])
    cells: list[Cell] = field(default_factory=list[Cell])
    inputs: dict[str, str] = field(default_factory=dict[str, str])

    def known(self, stage: Stage) -> Stage:
        """Add a stage, unless it is there already, and return it.

        Raises
        ------
        ValueError
            When another stage has its name.
        """
        there = self.stages.setdefault(stage.name, stage)
        if (there.roles, there.settings) != (stage.roles, stage.settings):
            raise ValueError(f"two stages are called {stage.name}")
        return there

    def cell(self, study: Study, stage: Stage, *, needs: str = "", **about: Any) -> None:
        """Add a cell: what a stage measures of a system, with a set of rows, with a seed."""
        self.inputs |= study.inputs
        place = {"model": study.name, "pair": study.pair, "system": None, "set": None, "seed": None}
        self.cells.append(Cell(stage=self.known(stage).name, about={**place, **about}, needs=needs))

    def measure(
        self,
        study: Study,
        product: Stage | None,
        *,
        translate: bool | None = None,
        seed: int | None = None,
        needs: str = "",
        **about: Any,
    ) -> None:
        """Add the cell of a product; it translates as the scale says for its seed, unless `translate` says."""
        if translate is None:
            translate = seed is None or self.scale.translates(seed)
        self.cell(study, measure_stage(study, product, translate=translate), seed=seed, needs=needs, **about)

    def original(self, study: Study) -> None:
        """Add the cell of the original model."""
        self.measure(study, None, system="original")

    def embed(self, study: Study, seed: int) -> Stage:
        """Add the cell of embed tuning with a seed, and return its stage."""
        tuned = self.known(tune_stage(study, "embed", seed))
        self.measure(study, tuned, seed=seed, system="embed")
        return tuned

    def embedded(self, studies: Sequence[Study]) -> Iterator[tuple[Study, int, Stage, Stage]]:
        """Yield each study with each seed, the stage of its embed tuning, and that of the scan of it."""
        for study in studies:
            self.inputs |= study.inputs
            for seed in self.scale.every_seed:
                embed = self.known(tune_stage(study, "embed", seed))
                yield study, seed, embed, self.known(scan_stage(study, embed))

    def ticket_sets(self, study: Study, embed: Stage) -> dict[str, Stage]:
        """Return the sets of rows by what they are called: p below each threshold, then the first rows by ascending p."""
        scan, seed = self.known(scan_stage(study, embed)), embed.settings["seed"]
        sets = {below(alpha): rows_stage(study, "ks", None, seed, scan, alpha=alpha) for alpha in self.scale.alphas}
        sets |= {at_most(size): rows_stage(study, "ks", size, seed, scan) for size in self.scale.sizes}
        return {name: self.known(stage) for name, stage in sets.items()}

    def as_many(self, study: Study, rule: str, seed: int, tickets: Stage) -> Stage:
        """Return the stage that chooses by another rule as many rows as a set has."""
        size = tickets.settings["size"]
        like = tickets if size is None else None
        return self.known(rows_stage(study, rule, size, seed, like=like))

    def recipe(
        self,
        name: str,
        report: Callable[[Sequence[FinishedCell]], Sequence[Section]],
        charts: Callable[[Sequence[FinishedCell]], Sequence[Chart]] | None = None,
    ) -> Recipe:
        """Return the recipe."""
        return Recipe(
            name=name, stages=tuple(self.stages.values()), inputs=self.inputs, cells=tuple(self.cells), report=report,
            charts=charts,
        )  # fmt: skip
