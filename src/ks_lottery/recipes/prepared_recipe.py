"""Recipes by name, and a recipe with its models and texts opened, before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_lottery.config.choices import DEFAULT_MODEL
from ks_lottery.config.recipe_commands import ReproduceOptions
from ks_lottery.config.values import did_you_mean, values_of
from ks_lottery.corpus.mixed_templates import resolved_template
from ks_lottery.errors import UserError
from ks_lottery.evaluation.spm import find_model
from ks_lottery.recipes.all_recipes import ALL, combined_recipe
from ks_lottery.recipes.analysis_recipe import explanation_recipe, module_recipe, power_recipe
from ks_lottery.recipes.certification_recipe import CERTIFICATION_RECIPES
from ks_lottery.recipes.one_model import OneModel
from ks_lottery.recipes.opened_studies import OpenedStudies
from ks_lottery.recipes.overlap_recipe import overlap_recipe
from ks_lottery.recipes.recipe_scale import SCALES, RecipeScale
from ks_lottery.recipes.score_recipes import efficiency_recipe, existence_recipe, frozen_recipe, token_recipe
from ks_lottery.recipes.selector_recipe import selector_recipe
from ks_lottery.recipes.stored import StoredRecipe
from ks_lottery.recipes.table_scale import table_pairs, table_scale
from ks_lottery.recipes.transfer_matrix import transfer_matrix_recipe
from ks_lottery.recipes.where_recipe import where_recipe
from ks_lottery.store.cells import Cells
from ks_lottery.store.objects import ObjectStore
from ks_lottery.tuning.processes import share_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ks_lottery.recipes.stage import Recipe
    from ks_lottery.recipes.study import Study

TABLES: dict[str, Callable[[str, Sequence[Study], RecipeScale], Recipe]] = {
    "table1": existence_recipe, "figure1": existence_recipe, "table2": efficiency_recipe, "table4": token_recipe,
    "figure8": token_recipe, "figure5": frozen_recipe, "table8": overlap_recipe,
}  # fmt: skip
"""Recipes of the paper's score tables, which have sizes of their own (`table_scale`)."""

RECIPES: dict[str, Callable[[Sequence[Study], RecipeScale], Recipe]] = {
    "selectors": selector_recipe,
    "where": where_recipe,
    **{name: partial(recipe, name) for name, recipe in TABLES.items()},
    "table3": explanation_recipe,
    **CERTIFICATION_RECIPES,
    "figure6": module_recipe,
    "power": power_recipe,
    "transfer-matrix": transfer_matrix_recipe,
}
"""Name of a recipe to what builds it from stages of `ks_lottery.recipes.study_stages`; the same names as
`ks_lottery.config.choices.RECIPES`, which has their help, and also `all`."""

OWN_SCALE = ("selectors", "where")
"""Recipes that are not of the paper, and have the sizes of `SCALES`; all others have those of `table_scale`."""

DEFAULT_PAIRS = ("en-ca",)

KEPT_APART = ("store", "cells", "device", "trust_remote_code", "workers", "processes", "spm")
"""Options that no figure depends on, or, of `spm`, whose content is in the keys of the cells."""


@dataclass(frozen=True, kw_only=True)
class PreparedRecipe:
    """A recipe with its models and texts opened, before anything is computed.

    Parameters
    ----------
    studies
        Each model with each pair of languages.
    stored
        The recipe with its store, cells and conditions.
    left_out
        Of `all`: each recipe that cannot be built of these models and texts, and why.
    """

    studies: Sequence[Study]
    stored: StoredRecipe
    left_out: Mapping[str, str] = field(default_factory=dict[str, str])


def prepare_recipe(options: ReproduceOptions, conditions: Mapping[str, Any] | None = None) -> PreparedRecipe:
    """Open models and texts of a recipe, and check them, before anything is computed.

    Parameters
    ----------
    conditions
        Conditions under which its stages are computed; by default those of this process.

    Raises
    ------
    UserError
        When a name is not known, or a model, a text, the store or the cells cannot be read.
    """
    names = (*RECIPES, ALL)
    for name, known, parameter in ((options.recipe, names, "recipe"), (options.scale, SCALES, "scale")):
        if name not in known:
            raise UserError(
                f"`{parameter}` is {name!r}, but must be one of {', '.join(known)}{did_you_mean(name, known)}"
            )
    options = replace(options, template=resolved_template(options.template))
    store, cells = ObjectStore(options.store), Cells(options.cells)
    given = {name: Path(file) for name, file in options.spm.items()}
    spm = {name: find_model(name, given).path for name in given}
    models = OneModel.of(options) if conditions is None else OneModel.under(conditions, options)
    opened = OpenedStudies(models=models, spm=spm)
    left_out: dict[str, str] = {}
    if options.recipe == ALL:
        studies, recipe, left_out = _every(options, opened)
    else:
        studies, recipe = _built(options, opened)
    for stage in recipe.stages if options.processes > 1 else ():
        if stage.train is not None:
            share_of(stage.settings, options.processes)
    arguments = arguments_of(options if options.recipe == ALL else _resolved(options)[0])
    stored = StoredRecipe(
        recipe=recipe, store=store, cells=cells, conditions=models.conditions() if conditions is None else conditions,
        arguments=arguments,
    )  # fmt: skip
    return PreparedRecipe(studies=studies, stored=stored, left_out=left_out)


def _built(options: ReproduceOptions, opened: OpenedStudies) -> tuple[list[Study], Recipe]:
    """Return the studies of a recipe and the recipe."""
    options, scale = _resolved(options)
    studies = opened.studies(options, scale)
    return studies, RECIPES[options.recipe](studies, scale)


def _every(options: ReproduceOptions, opened: OpenedStudies) -> tuple[list[Study], Recipe, dict[str, str]]:
    """Return all studies, one recipe of all that can be built of these models and texts, and why others cannot."""
    studies: list[Study] = []
    recipes: dict[str, Recipe] = {}
    left_out: dict[str, str] = {}
    for name in RECIPES:
        try:
            own, recipes[name] = _built(replace(options, recipe=name), opened)
            studies += own
        except UserError as error:
            left_out[name] = str(error)
    return studies, combined_recipe(recipes, left_out), left_out


def _resolved(options: ReproduceOptions) -> tuple[ReproduceOptions, RecipeScale]:
    """Return the options with the models and pairs that the recipe has where none are given, and the size of the recipe."""
    is_table = options.recipe not in OWN_SCALE
    scale = table_scale(options.recipe, options.scale) if is_table else SCALES[options.scale]
    pairs = table_pairs(options.recipe, options.scale) if is_table else DEFAULT_PAIRS
    model = options.model or scale.models or (DEFAULT_MODEL,)
    options = replace(options, model=model, pairs=options.pairs or pairs)
    return options, scale.given(seeds=options.seeds, sizes=options.sizes, learning_rate=options.learning_rate)


def arguments_of(options: ReproduceOptions) -> dict[str, Any]:
    """Return the options that figures depend on, as plain values."""
    values = {name: value for name, value in values_of(options).items() if name not in KEPT_APART}
    known = {name for cls in ReproduceOptions.__mro__ for name in vars(cls).get("__annotations__", {})}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items() if name in known}
