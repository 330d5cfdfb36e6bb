"""The recipes `table3` (what tickets are), `figure6` (which modules change) and `power` (which trainings find tickets)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ks_lottery.recipes.analysis_charts import module_charts
from ks_lottery.recipes.analysis_stages import (
    ALPHA,
    explain_stage,
    kinds_stage,
    layer_stage,
    layers_of,
    power_stage,
)
from ks_lottery.recipes.certificate_stages import certify_stage
from ks_lottery.recipes.explanation_table import explanation_tables
from ks_lottery.recipes.module_tables import module_tables
from ks_lottery.recipes.power_tables import power_tables
from ks_lottery.recipes.recipe_parts import RecipeParts
from ks_lottery.recipes.study_stages import rows_stage, scan_stage, tune_stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ks_lottery.config.settings import TrainConfig
    from ks_lottery.recipes.recipe_scale import RecipeScale
    from ks_lottery.recipes.stage import Recipe
    from ks_lottery.recipes.study import Study


def explanation_recipe(studies: Sequence[Study], scale: RecipeScale) -> Recipe:
    """Return the recipe `table3`: the tickets at p < 0.05 of each seed."""
    parts = RecipeParts(scale=scale)
    for study, seed, embed, scan in parts.embedded(studies):
        rows = parts.known(rows_stage(study, "ks", None, seed, scan, alpha=ALPHA))
        parts.cell(study, explain_stage(study, embed, scan, rows), figure="tickets", alpha=ALPHA, seed=seed)
    return parts.recipe("table3", explanation_tables)


def module_recipe(studies: Sequence[Study], scale: RecipeScale) -> Recipe:
    """Return the recipe `figure6`: the embedding by embed tuning, and each layer by full tuning of it alone."""
    parts = RecipeParts(scale=scale)
    for study, seed, _, scan in parts.embedded(studies):
        parts.cell(study, kinds_stage(study, scan), figure="modules", layer=None, seed=seed)
        for layer in layers_of(study):
            tuned = parts.known(layer_stage(study, layer, seed))
            parts.cell(study, kinds_stage(study, tuned), figure="modules", layer=layer, seed=seed)
    return parts.recipe("figure6", module_tables, module_charts)


def power_recipe(studies: Sequence[Study], scale: RecipeScale) -> Recipe:
    """Return the recipe `power`: embed tuning at each rate, number of steps and batch, and the transfer of its tickets."""
    parts = RecipeParts(scale=scale)
    grid = scale.power
    for study in studies:
        parts.inputs |= study.inputs
        for rate, steps, batch in [(r, s, b) for r in grid.rates for s in grid.steps for b in grid.batches]:
            training = training_of(scale.training, len(study.train_examples), rate, steps, batch)
            trained = study.trained_by(training, f" at {rate:g} for {steps} steps of {batch}")
            parts.inputs |= trained.inputs
            for seed in scale.every_seed:
                embed = parts.known(tune_stage(trained, "embed", seed))
                scan = parts.known(scan_stage(trained, embed))
                about: dict[str, Any] = {"rate": rate, "steps": steps, "batch": batch, "seed": seed}
                parts.cell(trained, power_stage(trained, embed, scan), figure="power", **about)
                parts.cell(trained, certify_stage(trained, embed, scan, [ALPHA]), figure="certificate", **about)
    return parts.recipe("power", power_tables)


def training_of(training: TrainConfig, examples: int, rate: float, steps: int, batch: int) -> TrainConfig:
    """Return a training with other rate and batch, and as many epochs as give so many steps.

    >>> from ks_lottery.config.settings import TrainConfig
    >>> from ks_lottery.tuning.plan import steps_in_all
    >>> made = training_of(TrainConfig(), 100, 1e-3, 5, 7)
    >>> steps_in_all(100, made.batch_size, made.gradient_accumulation, made.epochs)
    5
    """
    an_epoch = math.ceil(examples / batch)
    epochs = steps / an_epoch
    while math.ceil(an_epoch * epochs) > steps:  # what a rounding error added
        epochs = math.nextafter(epochs, 0.0)
    return replace(
        training, learning_rate=rate, epochs=epochs, batch_size=batch, gradient_accumulation=1,
        embed_learning_rate=None, embed_epochs=None,
    )  # fmt: skip
