"""Recipes of the paper's score tables: 1 (figure 1), 2 and 4 (figure 8), and figure 5."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ks_lottery.models.quantized import missing_quantization
from ks_lottery.recipes.full_stage import full_stage
from ks_lottery.recipes.recipe_parts import RecipeParts, at_most
from ks_lottery.recipes.score_charts import existence_charts, frozen_charts, token_charts
from ks_lottery.recipes.score_sections import frozen_sections, score_sections, sweep_sections
from ks_lottery.recipes.study_stages import rows_stage, scan_stage, transfer_stage, tune_stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ks_lottery.recipes.recipe_scale import RecipeScale
    from ks_lottery.recipes.stage import Recipe, Stage
    from ks_lottery.recipes.study import Study

RANDOM_RULES = ("random", "random-reachable")
"""Draws from the whole vocabulary, as in the paper, and from the rows that the text reaches, the fair rival."""


def _add_full(parts: RecipeParts, study: Study, seed: int) -> None:
    stage = full_stage(study, seed, translate=parts.scale.translates(seed))
    parts.cell(study, stage, system="full", seed=seed)


def _add_partial(parts: RecipeParts, study: Study, rows: Stage, seed: int, system: str, name: str) -> None:
    tuned = parts.known(tune_stage(study, "partial", seed, rows=rows))
    parts.measure(study, tuned, seed=seed, system=system, set=name)


def existence_recipe(name: str, studies: Sequence[Study], scale: RecipeScale) -> Recipe:
    """Return the recipe of table 1, or with its figure of figure 1.

    Original model, full and embed tuning; and for each set of tickets partial tuning, partial transfer, and tuning of as many
    random rows, drawn at least three times.
    """
    parts = RecipeParts(scale=scale)
    for study in studies:
        parts.original(study)
        sets: dict[int, dict[str, Stage]] = {}
        for seed in scale.every_seed:
            _add_full(parts, study, seed)
            embed = parts.embed(study, seed)
            sets[seed] = parts.ticket_sets(study, embed)
            for called, rows in sets[seed].items():
                _add_partial(parts, study, rows, seed, "partial", called)
                moved = parts.known(transfer_stage(study, embed, rows))
                parts.measure(study, moved, seed=seed, system="transfer", set=called)
        for draw in scale.every_draw:
            tickets = sets[scale.every_seed[(draw - scale.first_seed) % scale.seeds]]
            for called, rows in tickets.items():
                for rule in RANDOM_RULES:
                    _add_partial(parts, study, parts.as_many(study, rule, draw, rows), draw, rule, called)
    report = partial(score_sections, table="table1", resamples=scale.resamples)
    return parts.recipe(name, report, existence_charts if name == "figure1" else None)


def efficiency_recipe(name: str, studies: Sequence[Study], scale: RecipeScale) -> Recipe:
    """Return the recipe of table 2: methods with few parameters beside partial tuning, with full and embed tuning."""
    parts = RecipeParts(scale=scale)
    sharded = any(study.models.shards for study in studies)
    needs = {
        "qlora": missing_quantization() or ("one process, since a body in 4 bits is not sharded" if sharded else "")
    }
    for study in studies:
        parts.original(study)
        for seed in scale.every_seed:
            _add_full(parts, study, seed)
            for method in ("qlora", "lora", "prefix"):
                tuned = parts.known(tune_stage(study, method, seed))
                parts.measure(study, tuned, seed=seed, needs=needs.get(method, ""), system=method)
            for tokens in scale.prompts[:1]:
                tuned = parts.known(tune_stage(study, "prompt", seed, tokens=tokens))
                parts.measure(study, tuned, seed=seed, system="prompt")
            embed = parts.embed(study, seed)
            for called, rows in parts.ticket_sets(study, embed).items():
                _add_partial(parts, study, rows, seed, "partial", called)
    left_out = {system: reason for system, reason in needs.items() if reason}
    return parts.recipe(name, partial(score_sections, table="table2", left_out=left_out, resamples=scale.resamples))


def token_recipe(name: str, studies: Sequence[Study], scale: RecipeScale) -> Recipe:
    """Return the recipe of table 4, or with its figure of figure 8.

    Partial tuning, partial transfer and frequency tuning by number of tokens, and the best number of each.
    """
    parts = RecipeParts(scale=scale)
    for study in studies:
        parts.original(study)
        for seed in scale.every_seed:
            embed = parts.embed(study, seed)
            for called, rows in parts.ticket_sets(study, embed).items():
                _add_partial(parts, study, rows, seed, "partial", called)
                moved = parts.known(transfer_stage(study, embed, rows))
                parts.measure(study, moved, seed=seed, system="transfer", set=called)
                _add_partial(parts, study, parts.as_many(study, "frequency", seed, rows), seed, "frequency", called)
    report = partial(
        sweep_sections, table="table4", systems=("partial", "transfer", "frequency"), resamples=scale.resamples
    )
    return parts.recipe(name, report, token_charts if name == "figure8" else None)


def frozen_recipe(name: str, studies: Sequence[Study], scale: RecipeScale) -> Recipe:
    """Return the recipe of figure 5: all rows are tuned but the first tickets, or but as many rows drawn at random."""
    parts = RecipeParts(scale=scale)
    for study in studies:
        parts.original(study)
        for seed in scale.every_seed:
            scan = parts.known(scan_stage(study, parts.embed(study, seed)))
            for size in scale.sizes:
                for system, rule, basis in (("frozen", "ks", scan), ("frozen-random", "random-reachable", None)):
                    rows = parts.known(rows_stage(study, rule, size, seed, basis))
                    tuned = parts.known(tune_stage(study, "frozen", seed, rows=rows))
                    parts.measure(study, tuned, seed=seed, system=system, set=at_most(size))
    return parts.recipe(name, partial(frozen_sections, resamples=scale.resamples), frozen_charts)
