"""Recipes by name: models and texts in, tables out; stages come from the store, finished cells from their folder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ks_lottery.config.choices import DEFAULT_MODEL
from ks_lottery.config.recipe_commands import ReproduceOptions
from ks_lottery.config.values import checks_names, did_you_mean, values_of
from ks_lottery.corpus.mixed_templates import resolved_template
from ks_lottery.errors import UserError
from ks_lottery.evaluation.spm import find_model
from ks_lottery.recipes.overlap_recipe import overlap_recipe
from ks_lottery.recipes.recipe_scale import SCALES, RecipeScale
from ks_lottery.recipes.reproduction import Reproduction, about_of
from ks_lottery.recipes.score_recipes import efficiency_recipe, existence_recipe, frozen_recipe, token_recipe
from ks_lottery.recipes.selector_recipe import selector_recipe
from ks_lottery.recipes.stored import StoredRecipe
from ks_lottery.recipes.study import OneModel, Study, open_study_model
from ks_lottery.recipes.study_texts import parse_pair, study_texts
from ks_lottery.recipes.table_scale import table_pairs, table_scale
from ks_lottery.recipes.where_recipe import where_recipe
from ks_lottery.store.cells import Cells
from ks_lottery.store.objects import ObjectStore
from ks_lottery.store.work_folder import WorkFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ks_lottery.recipes.stage import Recipe
    from ks_lottery.report.screen import Screen

TABLES: dict[str, Callable[[str, Sequence[Study], RecipeScale], Recipe]] = {
    "table1": existence_recipe, "figure1": existence_recipe, "table2": efficiency_recipe, "table4": token_recipe,
    "figure8": token_recipe, "figure5": frozen_recipe, "table8": overlap_recipe,
}  # fmt: skip
"""Recipes of the paper's score tables, which have sizes of their own (`table_scale`)."""

RECIPES: dict[str, Callable[[Sequence[Study], RecipeScale], Recipe]] = {
    "selectors": selector_recipe,
    "where": where_recipe,
    **{name: partial(recipe, name) for name, recipe in TABLES.items()},
}
"""Name of a recipe to what builds it from stages of `ks_lottery.recipes.study_stages`; the same names as
`ks_lottery.config.choices.RECIPES`, which has their help."""

DEFAULT_PAIRS = ("en-ca",)

KEPT_APART = ("store", "cells", "device", "trust_remote_code", "spm")
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
    """

    studies: Sequence[Study]
    stored: StoredRecipe


def prepare_recipe(options: ReproduceOptions) -> PreparedRecipe:
    """Open models and texts of a recipe, and check them, before anything is computed.

    Raises
    ------
    UserError
        When a name is not known, or a model, a text, the store or the cells cannot be read.
    """
    for name, known, parameter in ((options.recipe, RECIPES, "recipe"), (options.scale, SCALES, "scale")):
        if name not in known:
            raise UserError(
                f"`{parameter}` is {name!r}, but must be one of {', '.join(known)}{did_you_mean(name, known)}"
            )
    options = replace(options, template=resolved_template(options.template))
    options, scale = _resolved(options)
    for pair in options.pairs:
        parse_pair(pair)
    store, cells = ObjectStore(options.store), Cells(options.cells)
    given = {name: Path(file) for name, file in options.spm.items()}
    spm = {name: find_model(name, given).path for name in given}
    texts = {pair: study_texts(options, pair, scale) for pair in options.pairs}
    models = OneModel.of(options)
    studies: list[Study] = []
    for name in options.model:
        checkpoint = open_study_model(name)
        for pair, (train, test) in texts.items():
            study = Study(
                name=name, pair=pair, checkpoint=checkpoint, models=models, train=train, test=test,
                template=options.template, max_tokens=scale.max_tokens, scale=scale, spm=spm,
            )  # fmt: skip
            studies.append(study)
    stored = StoredRecipe(
        recipe=RECIPES[options.recipe](studies, scale), store=store, cells=cells, conditions=models.conditions(),
        arguments=arguments_of(options),
    )  # fmt: skip
    return PreparedRecipe(studies=studies, stored=stored)


def _resolved(options: ReproduceOptions) -> tuple[ReproduceOptions, RecipeScale]:
    """Return the options with the models and pairs that the recipe has where none are given, and the size of the recipe."""
    is_table = options.recipe in TABLES
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


def reproduce_with(options: ReproduceOptions, screen: Screen, out: Path | None = None) -> Reproduction:
    """Make what is missing of a recipe, and its tables; see `reproduce`.

    Parameters
    ----------
    out
        Folder that the tables are written to; one with something else is refused before anything is computed.
    """
    with screen.stage("open models and texts"):
        prepared = prepare_recipe(options)
        stored = prepared.stored
        keys = [key for key, is_here in zip(stored.cell_keys(), stored.present(), strict=True) if is_here]
        about = about_of(keys, stored.arguments)
        if out is not None:
            WorkFolder(out).is_done(about)
    cells = stored.execute(screen)
    tables = () if stored.recipe.report is None else stored.recipe.report(cells)
    made = Reproduction(
        recipe=options.recipe, cells=cells, keys=keys, tables=tables, arguments=stored.arguments,
        charts=() if stored.recipe.charts is None else stored.recipe.charts(cells),
    )  # fmt: skip
    if out is not None:
        made.save(out)
    return made


@checks_names
def reproduce(
    recipe: str,
    *,
    scale: str = ReproduceOptions.scale,
    model: Sequence[str] = ReproduceOptions.model,
    pairs: Sequence[str] = ReproduceOptions.pairs,
    train: str = ReproduceOptions.train,
    data: str | None = ReproduceOptions.data,
    seeds: int | None = ReproduceOptions.seeds,
    sizes: Sequence[int] = ReproduceOptions.sizes,
    learning_rate: float | None = ReproduceOptions.learning_rate,
    template: str = ReproduceOptions.template,
    spm: Mapping[str, str | Path] | None = None,
    store: str | Path | None = None,
    cells: str | Path | None = None,
    dtype: Literal["auto", "float32", "bfloat16"] = ReproduceOptions.dtype,
    device: Literal["auto", "cpu", "cuda", "mps"] = ReproduceOptions.device,
    trust_remote_code: bool = ReproduceOptions.trust_remote_code,
    progress: bool = False,
) -> Reproduction:
    """Make the tables of a recipe. What the store or the folder of cells has already is not computed again.

    Parameters
    ----------
    recipe
        One of `ks_lottery.config.choices.RECIPES`.
    scale
        ``smoke``, ``small`` (the default) or ``paper``: how much text, how many seeds and rows.
    model
        Folders, GGUF files or hub ids; by default the embedded model, or those of the paper for its tables at its scale.
    pairs
        Pairs of languages, each as ``SOURCE-TARGET``; ``en-ca`` by default, or those of the paper for its tables at its scale.
    train, data
        Texts to train and to measure on; ``{source}`` and ``{target}`` in a name stand for the languages of a pair. Without
        `data`, a fifth of the training text is measured on.
    seeds, sizes
        Number of seeds, and numbers of rows, in place of those of the scale.
    learning_rate
        Of every method that trains rows, above 0, in place of that of the scale.
    template
        Prompt, as for `tune`.
    spm
        SentencePiece models by name of the tokenizer, ``flores101`` or ``flores200``, to score translations by spBLEU too; none
        by default.
    store
        Folder of finished stages; by default ``$KS_LOTTERY_STORE``, or ``store`` in the cache folder.
    cells
        Folder of finished cells; by default ``results/cells`` in the working directory if it exists.
    dtype, device, trust_remote_code
        As `load_model` takes them.
    progress
        Show each stage on standard output; off by default.

    Returns
    -------
    Reproduction
        ``cells`` with all figures, ``sections()`` with the tables, and ``save(folder)``.

    Raises
    ------
    UserError
        When a name is not known, or a model, a text, the store or a cell cannot be read.
    """
    from io import StringIO

    from rich.console import Console

    from ks_lottery.report.screen import Screen

    options = ReproduceOptions(
        recipe=recipe, scale=scale, model=tuple(map(str, model)), pairs=tuple(pairs), train=str(train), data=data,
        seeds=seeds, sizes=tuple(sizes), learning_rate=learning_rate, template=template,
        spm={name: str(file) for name, file in (spm or {}).items()}, store=None if store is None else str(store),
        cells=None if cells is None else str(cells), dtype=dtype, device=device, trust_remote_code=trust_remote_code,
    )  # fmt: skip
    screen = Screen(total=0) if progress else Screen(total=0, console=Console(file=StringIO()))
    return reproduce_with(options, screen)
