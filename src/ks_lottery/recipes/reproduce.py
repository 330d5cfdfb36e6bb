"""Recipes by name: models and texts in, tables out; stages come from the store, finished cells from their folder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ks_lottery.config.recipe_commands import ReproduceOptions
from ks_lottery.config.values import checks_names, did_you_mean, values_of
from ks_lottery.corpus.mixed_templates import resolved_template
from ks_lottery.errors import UserError
from ks_lottery.recipes.all_recipes import ALL, combined_recipe
from ks_lottery.recipes.analysis_recipe import explanation_recipe, module_recipe, power_recipe
from ks_lottery.recipes.certification_recipe import CERTIFICATION_RECIPES
from ks_lottery.recipes.recipe_scale import SCALES, RecipeScale
from ks_lottery.recipes.selector_recipe import selector_recipe
from ks_lottery.recipes.stored import StoredRecipe
from ks_lottery.recipes.study import OneModel, Study, open_study_model
from ks_lottery.recipes.study_texts import parse_pair, study_texts
from ks_lottery.recipes.transfer_matrix import transfer_matrix_recipe
from ks_lottery.recipes.where_recipe import where_recipe
from ks_lottery.report.delimited import to_csv
from ks_lottery.report.latex import to_latex
from ks_lottery.report.markdown import to_markdown
from ks_lottery.report.notebook import Shown
from ks_lottery.report.terminal import to_text
from ks_lottery.store.cells import Cells, FinishedCell
from ks_lottery.store.files import write_text
from ks_lottery.store.manifest import manifest
from ks_lottery.store.objects import ObjectStore
from ks_lottery.store.work_folder import WorkFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ks_lottery.recipes.stage import Recipe
    from ks_lottery.report.screen import Screen
    from ks_lottery.report.section import Section

_RECIPES: dict[str, Callable[[Sequence[Study], RecipeScale], Recipe]] = {
    "selectors": selector_recipe,
    "where": where_recipe,
    "table3": explanation_recipe,
    **CERTIFICATION_RECIPES,
    "figure6": module_recipe,
    "power": power_recipe,
    "transfer-matrix": transfer_matrix_recipe,
}

RECIPES = {**_RECIPES, ALL: partial(combined_recipe, _RECIPES)}
"""Name of a recipe to what builds it from stages of `ks_lottery.recipes.study_stages`; the same names as
`ks_lottery.config.choices.RECIPES`, which has their help."""

KEPT_APART = ("store", "cells", "device", "trust_remote_code")
"""Options that no figure depends on."""


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


@dataclass(frozen=True, kw_only=True, repr=False)
class Reproduction(Shown):
    """What a recipe made.

    Parameters
    ----------
    recipe
        Name of the recipe.
    cells
        What was measured.
    keys
        Key of each cell.
    tables
        Tables and sentences.
    arguments
        What the recipe was called with.
    """

    recipe: str
    cells: Sequence[FinishedCell]
    keys: Sequence[str]
    tables: Sequence[Section]
    arguments: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"Reproduction({self.recipe}, {len(self.cells)} cells)"

    def sections(self) -> Sequence[Section]:
        """Return the tables, and what they say."""
        return self.tables

    def save(self, folder: str | Path) -> Path:
        """Write the tables into a new folder: all as text, Markdown and LaTeX, and each as CSV; return the folder.

        Raises
        ------
        UserError
            When it has something else than the same tables, or cannot be written.
        """
        out = Path(folder).expanduser()
        work, about = WorkFolder(out), _about(self.keys, self.arguments)
        if not work.is_done(about):
            with work.publish(about) as place:
                write_text(place / f"{self.recipe}.txt", to_text(self.tables))
                write_text(place / f"{self.recipe}.md", to_markdown(self.tables))
                write_text(place / f"{self.recipe}.tex", to_latex(self.tables))
                filled = [section for section in self.tables if section.rows]
                for number, section in enumerate(filled, start=1):
                    write_text(place / f"{self.recipe}-{number}.csv", to_csv(section))
        return out


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
    for pair in options.pairs:
        parse_pair(pair)
    store, cells = ObjectStore(options.store), Cells(options.cells)
    scale = SCALES[options.scale].given(seeds=options.seeds, sizes=options.sizes)
    texts = {pair: study_texts(options, pair, scale) for pair in options.pairs}
    models = OneModel.of(options)
    studies: list[Study] = []
    for name in options.model:
        checkpoint = open_study_model(name)
        for pair, (train, test) in texts.items():
            study = Study(
                name=name, pair=pair, checkpoint=checkpoint, models=models, train=train, test=test,
                template=options.template, max_tokens=scale.max_tokens, scale=scale,
            )  # fmt: skip
            studies.append(study)
    stored = StoredRecipe(
        recipe=RECIPES[options.recipe](studies, scale), store=store, cells=cells, conditions=models.conditions(),
        arguments=arguments_of(options),
    )  # fmt: skip
    return PreparedRecipe(studies=studies, stored=stored)


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
        about = _about(stored.cell_keys(), stored.arguments)
        if out is not None:
            WorkFolder(out).is_done(about)
    cells = stored.execute(screen)
    tables = () if stored.recipe.report is None else stored.recipe.report(cells)
    made = Reproduction(
        recipe=options.recipe, cells=cells, keys=stored.cell_keys(), tables=tables, arguments=stored.arguments
    )
    if out is not None:
        made.save(out)
    return made


def _about(keys: Sequence[str], arguments: Mapping[str, Any]) -> dict[str, Any]:
    return manifest("reproduction", made_from={"cells": list(keys)}, settings=arguments)


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
    template: str = ReproduceOptions.template,
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
        Folders, GGUF files or hub ids; the embedded model by default.
    pairs
        Pairs of languages, each as ``SOURCE-TARGET`` (``en-ca``).
    train, data
        Texts to train and to measure on; ``{source}`` and ``{target}`` in a name stand for the languages of a pair. Without
        `data`, a fifth of the training text is measured on.
    seeds, sizes
        Number of seeds, and numbers of rows, in place of those of the scale.
    template
        Prompt, as for `tune`.
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
        seeds=seeds, sizes=tuple(sizes), template=template, store=None if store is None else str(store),
        cells=None if cells is None else str(cells), dtype=dtype, device=device, trust_remote_code=trust_remote_code,
    )  # fmt: skip
    screen = Screen(total=0) if progress else Screen(total=0, console=Console(file=StringIO()))
    return reproduce_with(options, screen)
