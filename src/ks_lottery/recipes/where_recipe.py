"""The recipe `where`: in which spans tuned rows act, and whether rows of the prompt template or all others carry the gain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ks_lottery.corpus.mixed_templates import is_mixed
from ks_lottery.corpus.prompts import MIXED
from ks_lottery.errors import UserError, shortened
from ks_lottery.recipes.measure_stages import measure_stage
from ks_lottery.recipes.recipe_parts import RecipeParts
from ks_lottery.recipes.study_stages import (
    gradients_stage,
    rows_stage,
    scan_stage,
    transfer_stage,
    tune_stage,
)
from ks_lottery.recipes.where_stages import origin_stage, span_counts_of, where_stage
from ks_lottery.recipes.where_tables import where_tables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ks_lottery.recipes.recipe_scale import RecipeScale
    from ks_lottery.recipes.stage import Recipe, Stage
    from ks_lottery.recipes.study import Study

UNSEEN = "request"
"""Prompt that no training sees, neither in one prompt nor in a mix."""

MIXED_RULE = "gradient-sum"
"""Rule whose rows are trained outside the template too, and in a mix of prompts."""


class _Parts(RecipeParts):
    """Stages and cells of the recipe while it is built."""

    def shown(self, figure: str, study: Study, stage: Stage, **about: Any) -> None:
        """Add a cell of a table, with the prompts that its product was trained and measured in."""
        given: dict[str, Any] = {"size": None, "way": None, "trained_in": study.template, **about}
        self.cell(study, stage, figure=figure, measured_in=study.template, **given)


def where_recipe(studies: Sequence[Study], scale: RecipeScale) -> Recipe:
    """Return the recipe for some models and pairs of languages.

    Each product is made with each seed. Embed tuning and the rows that are trained alone are measured in each combination of
    spans (`where`), all others as `evaluate` does.

    Raises
    ------
    UserError
        When the prompt of a study is a mix or the one that no training may see, or does not show where the source is.
    """
    parts = _Parts(scale=scale)
    for study in studies:
        if is_mixed(study.template) or study.template == UNSEEN:
            raise UserError(
                f"`template` is {shortened(study.template)}, but this recipe trains in one prompt and in the mix {MIXED}, and "
                f"measures both in {UNSEEN}: give another prompt"
            )
        span_counts_of(study)
        parts.shown("accuracy", study, measure_stage(study, None), system="original", trained_in=None)
        _add_mixed(parts, study, scale)
        for seed in range(scale.seeds):
            _add_seed(parts, study, scale, seed)
    return parts.recipe("where", lambda finished: where_tables(finished, resamples=scale.resamples))


def _add_seed(parts: _Parts, study: Study, scale: RecipeScale, seed: int) -> None:
    """Add what is trained in the prompt of the study with one seed."""
    first, known = scale.sizes[0], parts.known
    embed = known(tune_stage(study, "embed", seed))
    once = seed == 0
    parts.shown(
        "where", study, where_stage(study, embed, controls=once, translate=once), system="embed", way="embed", seed=seed
    )
    bases = {"ks": known(scan_stage(study, embed)), "gradient-sum": known(gradients_stage(study)), "template": None}
    for rule, basis in bases.items():
        rows = known(rows_stage(study, rule, first, seed, basis))
        partial, shown = known(tune_stage(study, "partial", seed, rows=rows)), once and rule == "ks"
        stage = where_stage(study, partial, controls=shown, translate=shown)
        parts.shown("where", study, stage, system=rule, size=first, way="partial", seed=seed)
        if once or rule == "ks":  # other rules choose the same rows with each seed
            about = {"seed": seed if rule == "ks" else None}
            parts.shown("origin", study, origin_stage(study, rows), system=rule, size=first, way="rows", **about)
    outside = known(rows_stage(study, MIXED_RULE, first, seed, bases[MIXED_RULE], without="template"))
    partial = known(tune_stage(study, "partial", seed, rows=outside))
    about = {"system": f"{MIXED_RULE} outside the template", "size": first}
    parts.shown("accuracy", study, measure_stage(study, partial), **about, way="partial", seed=seed)
    if once:
        parts.shown("origin", study, origin_stage(study, outside), **about, way="rows")
    halves = {
        "template rows": known(rows_stage(study, "template", None, seed)),
        "all other rows": known(rows_stage(study, "reachable", None, seed, without="template")),
    }
    for half, rows in halves.items():
        moved = known(transfer_stage(study, embed, rows))
        parts.shown("accuracy", study, measure_stage(study, moved), system=half, way="transfer", seed=seed)
    for tokens in study.own_prompts(scale.prompts):
        tuned = known(tune_stage(study, "token-prompt", seed, tokens=tokens))
        about = {"system": "token-prompt", "size": tokens, "way": "token-prompt"}
        parts.shown("accuracy", study, measure_stage(study, tuned), **about, seed=seed)


def _add_mixed(parts: _Parts, study: Study, scale: RecipeScale) -> None:
    """Add what is trained in a mix of prompts, and measured in one that it does not contain."""
    mixed, unseen, first = study.shown_in(MIXED), study.shown_in(UNSEEN), scale.sizes[0]
    parts.shown("accuracy", unseen, measure_stage(unseen, None), system="original", trained_in=None)
    for trained in (study, mixed):
        basis = parts.known(gradients_stage(trained))
        for seed in range(scale.seeds):
            rows = parts.known(rows_stage(trained, MIXED_RULE, first, seed, basis))
            products: dict[str, tuple[Stage, dict[str, Any]]] = {
                "embed": (tune_stage(trained, "embed", seed), {}),
                MIXED_RULE: (tune_stage(trained, "partial", seed, rows=rows), {"size": first}),
            }
            if trained is mixed and seed == 0:
                parts.shown("origin", mixed, origin_stage(mixed, rows), system=MIXED_RULE, size=first, way="rows")
            for system, (tuned, sized) in products.items():
                product = parts.known(tuned)
                for shown in (unseen, *([study] if trained is mixed else [])):
                    about = {"system": system, "way": "partial" if sized else "embed", "trained_in": trained.template}
                    parts.shown("accuracy", shown, measure_stage(shown, product), **about, **sized, seed=seed)
