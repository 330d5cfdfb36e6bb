"""The recipe `selectors`: which rule chooses the rows that are worth most, trained alone and transferred."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ks_lottery.config.choices import ATTRIBUTIONS, MEASURED, SCORES
from ks_lottery.recipes.recipe_parts import RecipeParts
from ks_lottery.recipes.selector_sections import PRIMARY_SIZE, selector_sections
from ks_lottery.recipes.study_stages import (
    gradients_stage,
    rows_stage,
    scan_stage,
    transfer_stage,
    tune_stage,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ks_lottery.recipes.recipe_scale import RecipeScale
    from ks_lottery.recipes.stage import Recipe, Stage
    from ks_lottery.recipes.study import Study

RULES = ("ks", "lca", "gradient", "gradient-sum", "occurrence", "template", "random-reachable")
"""Rules that choose rows, by their names in `ks_lottery.config.choices.SELECTORS`; gradients are measured in one pass at the
original model, lca is recorded by embed tuning."""

FIXED_RULES = ("lca", "gradient", "occurrence")
"""Rules of the comparisons that are fixed beforehand, which get more seeds."""

LARGER = 120
"""Rows that a short training chooses from."""

TRIED = ("gradient-adam", "gradient-per-occurrence", "lca-after-a-quarter", "move-of-120-after-a-quarter")
"""Other rules, tried at the first size to beat counting: what Adam's move gains at the original model; the summed gradient
divided by the root of the occurrences; lca of embed tuning on a quarter of the steps; and, of the 120 rows of the largest
summed gradient, those that a quarter of the steps moves most."""

TRANSLATED_RULES = ("ks", "gradient-sum", "occurrence", "template")
"""Rules whose rows, trained alone with seed 0, translate."""


def selector_recipe(studies: Sequence[Study], scale: RecipeScale) -> Recipe:
    """Return the recipe for some models and pairs of languages.

    Every rule is trained alone at each size, and transferred at the first one. Beside them stand embed tuning, LoRA, prompt
    tuning, and prompts of tokens that text never yields, where the vocabulary has some; both prompts then have several sizes.
    """
    parts = RecipeParts(scale=scale)
    known = parts.known
    for study in studies:
        parts.measure(study, None, translate=True, system="original", size=None, way=None)
        first, own = scale.sizes[0], study.own_prompts(scale.prompts)
        fixed = PRIMARY_SIZE if PRIMARY_SIZE in scale.sizes else first
        virtual = scale.prompts if own else (first,)
        others: list[tuple[str, int | None]] = [
            ("lora", None), *(("prompt", size) for size in virtual), *(("token-prompt", size) for size in own),
        ]  # fmt: skip
        for seed in range(scale.primary_seeds):
            in_table, translate = seed < scale.seeds, seed == 0
            embed = known(tune_stage(study, "embed", seed))
            if in_table:
                parts.measure(study, embed, translate=translate, system="embed", size=None, way=None, seed=seed)
                for method, tokens in others:
                    tuned = known(tune_stage(study, method, seed, tokens=tokens))
                    parts.measure(study, tuned, translate=translate, system=method, size=tokens, way=None, seed=seed)
            for rule in TRIED if in_table else ():
                rows = known(_tried(study, rule, first, seed, known))
                partial = known(tune_stage(study, "partial", seed, rows=rows))
                parts.measure(study, partial, translate=False, system=rule, size=first, way="partial", seed=seed)
            for size in scale.sizes if in_table else (fixed,):
                for rule in RULES if in_table else FIXED_RULES:
                    rows = known(rows_stage(study, rule, size, seed, _basis(study, rule, embed, known)))
                    partial = known(tune_stage(study, "partial", seed, rows=rows))
                    shown = translate and size == first and rule in TRANSLATED_RULES
                    parts.measure(study, partial, translate=shown, system=rule, size=size, way="partial", seed=seed)
                    if in_table and size == first:
                        moved = known(transfer_stage(study, embed, rows))
                        parts.measure(study, moved, translate=False, system=rule, size=size, way="transfer", seed=seed)
    return parts.recipe("selectors", lambda finished: selector_sections(finished, resamples=scale.resamples))


def _tried(study: Study, rule: str, size: int, seed: int, known: Callable[[Stage], Stage]) -> Stage:
    gradients = known(gradients_stage(study))
    quarter = study.scale.training.epochs / 4
    if rule == "lca-after-a-quarter":
        return rows_stage(study, "lca", size, seed, known(tune_stage(study, "embed", seed, epochs=quarter)))
    if rule == "move-of-120-after-a-quarter":
        larger = known(rows_stage(study, "gradient-sum", LARGER, seed, gradients))
        moved = known(tune_stage(study, "partial", seed, rows=larger, epochs=quarter))
        return rows_stage(study, "absolute", size, seed, known(scan_stage(study, moved)))
    return rows_stage(study, rule, size, seed, gradients)


def _basis(study: Study, rule: str, embed: Stage, known: Callable[[Stage], Stage]) -> Stage | None:
    if rule in SCORES:
        return known(scan_stage(study, embed))
    if rule in MEASURED:
        return known(gradients_stage(study))
    return embed if rule in ATTRIBUTIONS else None
