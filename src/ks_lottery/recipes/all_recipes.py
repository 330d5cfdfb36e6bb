"""The recipe `all`: every recipe as one, so that what they share is planned and made once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ks_lottery.errors import UserError
from ks_lottery.recipes.stage import Cell, Recipe, Stage
from ks_lottery.report.section import Section

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ks_lottery.report.chart import Chart
    from ks_lottery.store.cells import FinishedCell

ALL = "all"
"""Name of the recipe."""


def combined_recipe(recipes: Mapping[str, Recipe], left_out: Mapping[str, str]) -> Recipe:
    """Return one recipe of all cells; its report has the tables of each recipe, under its name.

    Stages of one key are one stage. Where two recipes mean different work, or another text, by one name, the second name gets
    that of its recipe.

    Parameters
    ----------
    recipes
        The recipes by name.
    left_out
        Name of each recipe that could not be built to why, which the report says.

    Raises
    ------
    UserError
        When there is no recipe.
    """
    if not recipes:
        raise UserError(next(iter(left_out.values())))
    inputs: dict[str, str] = {}
    stages: dict[str, Stage] = {}
    names: dict[str, str] = {}
    cells: list[Cell] = []
    for name, recipe in recipes.items():
        renamed: dict[str, str] = {}
        for source, digest in recipe.inputs.items():
            renamed[source] = source if inputs.get(source, digest) == digest else f"{source}, {name}"
            inputs[renamed[source]] = digest
        keys = recipe.planned_keys({})
        for stage in recipe.stages:
            key = keys[stage.name]
            if key not in names:
                names[key] = stage.name if stage.name not in stages else f"{stage.name}, {name}"
                roles = {role: renamed[source] for role, source in stage.roles.items()}
                stages[names[key]] = replace(stage, name=names[key], inputs=roles)
            renamed[stage.name] = names[key]
        cells += [
            replace(cell, stage=renamed[cell.stage], about={**cell.about, "recipe": name}) for cell in recipe.cells
        ]

    def report(finished: Sequence[FinishedCell]) -> list[Section]:
        sections: list[Section] = []
        for name, recipe in recipes.items():
            sections.append(Section(title=f"Recipe {name}"))
            sections += () if recipe.report is None else recipe.report(_of(finished, name))
        said = [f"{name} was left out: {reason}" for name, reason in left_out.items()]
        return [*sections, Section(title="Recipes that were left out", sentences=said)] if said else sections

    def charts(finished: Sequence[FinishedCell]) -> list[Chart]:
        every = [(name, recipe.charts) for name, recipe in recipes.items() if recipe.charts is not None]
        return [chart for name, drawn in every for chart in drawn(_of(finished, name))]

    return Recipe(
        name=ALL, stages=tuple(stages.values()), inputs=inputs, cells=tuple(cells), report=report, charts=charts
    )


def _of(finished: Sequence[FinishedCell], name: str) -> list[FinishedCell]:
    return [cell for cell in finished if cell.about["recipe"] == name]
