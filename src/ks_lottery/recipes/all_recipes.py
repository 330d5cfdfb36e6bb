"""The recipe `all`: every recipe as one, so that what they share is planned and made once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ks_lottery.errors import UserError
from ks_lottery.recipes.stage import Recipe, Stage
from ks_lottery.report.section import Section

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ks_lottery.recipes.recipe_scale import RecipeScale
    from ks_lottery.recipes.study import Study
    from ks_lottery.store.cells import FinishedCell

ALL = "all"
"""Name of the recipe."""


def combined_recipe(
    builders: Mapping[str, Callable[[Sequence[Study], RecipeScale], Recipe]],
    studies: Sequence[Study],
    scale: RecipeScale,
) -> Recipe:
    """Return one recipe of all cells; its report has the tables of each recipe, under its name.

    A recipe that cannot be made of these models and texts is left out, and the report says why.

    Raises
    ------
    UserError
        When no recipe can be made.
    """
    recipes: dict[str, Recipe] = {}
    left_out: dict[str, str] = {}
    for name, build in builders.items():
        try:
            recipes[name] = build(studies, scale)
        except UserError as error:
            left_out[name] = str(error)
    if not recipes:
        raise UserError("; ".join(f"{name}: {reason}" for name, reason in left_out.items()))

    def report(finished: Sequence[FinishedCell]) -> list[Section]:
        sections: list[Section] = []
        for name, recipe in recipes.items():
            own = [cell for cell in finished if cell.about["recipe"] == name]
            sections.append(Section(title=f"Recipe {name}"))
            sections += () if recipe.report is None else recipe.report(own)
        said = [f"{name} was left out: {reason}" for name, reason in left_out.items()]
        return [*sections, Section(title="Recipes that were left out", sentences=said)] if said else sections

    return Recipe(
        name=ALL, stages=_stages(recipes), report=report,
        inputs={name: digest for recipe in recipes.values() for name, digest in recipe.inputs.items()},
        cells=tuple(
            replace(cell, about={**cell.about, "recipe": name}) for name, recipe in recipes.items() for cell in recipe.cells
        ),
    )  # fmt: skip


def _stages(recipes: Mapping[str, Recipe]) -> tuple[Stage, ...]:
    """Return every stage once.

    Raises
    ------
    ValueError
        When two recipes mean different work by one name.
    """
    stages: dict[str, Stage] = {}
    for name, recipe in recipes.items():
        for stage in recipe.stages:
            known = stages.setdefault(stage.name, stage)
            if _work(known) != _work(stage):
                raise ValueError(f"recipe {name} means other work by the stage {stage.name} than another recipe")
    return tuple(stages.values())


def _work(stage: Stage) -> tuple[object, ...]:
    return stage.kind or stage.name, stage.code, dict(stage.settings), dict(stage.roles)
