"""The stages, cells and inputs of a recipe while it is built: each stage once, whichever cells need it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ks_lottery.recipes.stage import Cell, Recipe, Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ks_lottery.recipes.study import Study
    from ks_lottery.report.section import Section
    from ks_lottery.store.cells import FinishedCell


@dataclass(kw_only=True)
class RecipeParts:
    """A recipe while it is built.

    Parameters
    ----------
    stages
        Stages by name, each after its inputs.
    cells
        What is measured.
    inputs
        Digest of each model and text by its name.
    """

    stages: dict[str, Stage] = field(default_factory=dict[str, Stage])
    cells: list[Cell] = field(default_factory=list[Cell])
    inputs: dict[str, str] = field(default_factory=dict[str, str])

    def known(self, stage: Stage) -> Stage:
        """Add a stage unless there is one of its name, and return the one that there is."""
        return self.stages.setdefault(stage.name, stage)

    def cell(self, study: Study, stage: Stage, **about: Any) -> None:
        """Add a cell that a stage measures; `about` says what beside model and pair."""
        place = {"model": study.name, "pair": study.pair}
        self.cells.append(Cell(stage=self.known(stage).name, about={**place, **about}))

    def recipe(self, name: str, report: Callable[[Sequence[FinishedCell]], Sequence[Section]]) -> Recipe:
        """Return the recipe."""
        return Recipe(
            name=name, stages=tuple(self.stages.values()), inputs=self.inputs, cells=tuple(self.cells), report=report
        )
