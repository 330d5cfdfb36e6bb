"""Sizes of the recipes of the paper's tables: sets of rows, pairs of languages, models, and how training goes."""

from __future__ import annotations

from dataclasses import replace

from ks_lottery.config.presets import MAX_TOKENS, SEED
from ks_lottery.recipes.paper import paper_table
from ks_lottery.recipes.recipe_scale import SCALES, RecipeScale

PAPER_MODELS = {"LLaMA-7B": "huggyllama/llama-7b", "Mistral-7B": "mistralai/Mistral-7B-v0.1"}
"""Models of the paper by their hub id."""

TABLE_OF = {"figure1": "table1", "figure8": "table4", "figure4": "table7", "figure7": "table7"}
"""Recipes of a figure to the table with its cells, or at least its pairs of languages."""

SIZES = {
    "table1": {"smoke": (8,), "small": (120,), "paper": (180, 800)},
    "table2": {"smoke": (8,), "small": (120,), "paper": (800,)},
    "table4": {"smoke": (4, 8), "small": (18, 50, 120, 400), "paper": (18, 50, 100, 200, 400, 800, 1600, 3200)},
    "figure5": {"smoke": (4, 8), "small": (18, 50, 120, 400), "paper": (10, 50, 100, 200, 400, 600, 800, 1000)},
    "table8": {"smoke": (8,), "small": (18,), "paper": (18,)},
}
"""Recipe and scale to the numbers of rows, first rows by ascending p: of table 1 the third sets of both models of the paper."""

ALPHAS = {"table1": (0.05, 0.25), "table4": (0.05, 0.1, 0.25, 0.5, 0.75), "table8": (0.05,)}
"""Recipe to its thresholds of p: a set has the rows with p in [0, alpha), closed on the left and open on the right."""

PAIRS = {"table8": ("en-ca", "en-de", "en-es"), "transfer-matrix": ("en-ca", "en-de", "en-es")}
"""Recipe to its pairs of languages where the user gives none, below the scale of the paper; ``en-ca`` alone for others."""

FIGURE5_PAIRS = ("en-ca",)
"""Pair of figure 5 at the scale of the paper, which does not say which one it shows."""

WITHOUT_PAIRS = ("table3", "table5", "figure6", "power")
"""Recipes of en-ca alone, also at the scale of the paper."""

ONE_MODEL = ("table3", "table5", "table6", "table7", "figure6", "power", "transfer-matrix")
"""Recipes with LLaMA-7B alone at the scale of the paper."""

_PAPER = replace(
    SCALES["paper"], seeds=1, first_seed=SEED, max_train=10_000, max_test=None, max_tokens=MAX_TOKENS, preset="paper",
    prompts=(10,), translations=1012, num_beams=4, max_new_tokens=256,
    translates_every=True, models=tuple(PAPER_MODELS.values()),
)  # fmt: skip
_BASES = {"smoke": replace(SCALES["smoke"], translates_every=True), "small": SCALES["small"], "paper": _PAPER}


def table_scale(recipe: str, scale: str) -> RecipeScale:
    """Return the size of a recipe of a table or a figure of the paper, or of one that follows its training.

    Parameters
    ----------
    recipe
        One of `ks_lottery.recipes.prepared_recipe.RECIPES`, but ``selectors`` and ``where``.
    scale
        One of `ks_lottery.config.choices.SCALES`.
    """
    table = TABLE_OF.get(recipe, recipe)
    base = _BASES[scale]
    base = replace(base, sizes=SIZES.get(table, {}).get(scale, base.sizes), alphas=ALPHAS.get(table, ()))
    base = replace(base, models=base.models[:1]) if table in ONE_MODEL else base
    # What two seeds share is the ceiling of what two languages can share.
    return replace(base, seeds=max(2, base.seeds)) if table == "table8" else base


def table_pairs(recipe: str, scale: str) -> tuple[str, ...]:
    """Return the pairs of languages that a recipe has unless the user gives others: at the scale of the paper, the paper's."""
    table = TABLE_OF.get(recipe, recipe)
    if scale != "paper":
        return PAIRS.get(table, ("en-ca",))
    if table == "figure5" or table in WITHOUT_PAIRS:
        return FIGURE5_PAIRS
    if table == "transfer-matrix":
        return PAIRS[table]
    found = paper_table(table)
    if found.columns is None:
        return tuple(row["pair"] for row in found.rows)
    return tuple(column for column in found.columns if column.startswith("en-"))


def paper_model(name: str) -> str:
    """Return the model of the paper whose figures stand beside those of a model.

    >>> paper_model("mistralai/Mistral-7B-v0.1"), paper_model("asset:smollm2-135m-instruct")
    ('Mistral-7B', 'LLaMA-7B')
    """
    return next((model for model in PAPER_MODELS if model.split("-")[0].lower() in name.lower()), "LLaMA-7B")
