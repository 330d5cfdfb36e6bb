"""The recipe `table8`: tickets of several languages side by side, and what two seeds and two prompts of one language share."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ks_lottery.errors import UserError
from ks_lottery.recipes.overlap_tables import overlap_tables
from ks_lottery.recipes.recipe_parts import RecipeParts
from ks_lottery.recipes.study_stages import tune_stage
from ks_lottery.recipes.where_stages import origin_stage, span_counts_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ks_lottery.recipes.recipe_scale import RecipeScale
    from ks_lottery.recipes.stage import Recipe
    from ks_lottery.recipes.study import Study

OTHER_PROMPT = "question"
"""Prompt that rewords the request: other words, and another layout."""


def overlap_recipe(name: str, studies: Sequence[Study], scale: RecipeScale) -> Recipe:
    """Return the recipe of table 8 for some models and pairs of languages.

    Raises
    ------
    UserError
        When the prompt is already the one that rewords it, or it does not show where the source is.
    """
    parts = RecipeParts(scale=scale)
    for study in studies:
        if study.template == OTHER_PROMPT:
            raise UserError(f"`template` is {OTHER_PROMPT}, which this recipe compares with: give another prompt")
        for shown in (study, study.shown_in(OTHER_PROMPT)):
            span_counts_of(shown)
            for seed in scale.every_seed:
                embed = parts.known(tune_stage(shown, "embed", seed))
                for called, rows in parts.ticket_sets(shown, embed).items():
                    parts.cell(
                        shown, origin_stage(shown, rows), system="ks", set=called, seed=seed, prompt=shown.template
                    )
    return parts.recipe(name, partial(overlap_tables, other=OTHER_PROMPT))
