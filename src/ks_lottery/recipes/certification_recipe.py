"""The recipes `table5`, `table6`, `table7`, `figure4` and `figure7`: certificates over alpha, and whether two tunings agree."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ks_lottery.recipes.analysis_charts import certification_charts
from ks_lottery.recipes.certificate_stages import alike_stage, certify_stage
from ks_lottery.recipes.certification_tables import certification_tables
from ks_lottery.recipes.recipe_parts import RecipeParts
from ks_lottery.recipes.study_stages import rows_stage, tune_stage
from ks_lottery.recipes.tuning_agreement_table import tuning_agreement_tables

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ks_lottery.recipes.recipe_scale import RecipeScale
    from ks_lottery.recipes.stage import Recipe, Stage
    from ks_lottery.recipes.study import Study

PARTIAL_ALPHAS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0)
"""Alphas of tables 5 and 7 together: both, and figure 4, show the same certificates."""

TRANSFER_ALPHAS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Alphas of figure 7; all come from one embed tuning."""

AGREEMENT_ALPHAS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Alphas of table 6: each selects tickets, which are then tuned alone."""


@dataclass(frozen=True, kw_only=True)
class CertificationTable:
    """One table or figure of certificates over alpha.

    Parameters
    ----------
    name
        Name of the recipe.
    partially
        Whether the rows of each alpha are tuned alone; else they are transferred from embed tuning.
    rule
        Rule whose certified positions are shown.
    alphas
        Alphas that are shown.
    """

    name: str
    partially: bool
    rule: str
    alphas: tuple[float, ...]


CERTIFICATION_TABLES = (
    CertificationTable(name="table5", partially=True, rule="both", alphas=(0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0)),
    CertificationTable(name="table7", partially=True, rule="theorem", alphas=(0.0, 0.05, 0.1, 0.5, 1.0)),
    CertificationTable(name="figure4", partially=True, rule="theorem", alphas=PARTIAL_ALPHAS),
    CertificationTable(name="figure7", partially=False, rule="theorem", alphas=TRANSFER_ALPHAS),
)
"""Table 5 of the paper has certified accuracies below the original model's accuracy, which the rule ``both`` explains; the
others follow theorem 2."""


def tickets_tuned_alone(
    parts: RecipeParts, study: Study, embed: Stage, scan: Stage, alphas: Sequence[float], seed: int
) -> Mapping[float, tuple[Stage, Stage]]:
    """Return for each alpha its rows and the partial tuning of them; at alpha 1, which selects every row, embed tuning."""
    made: dict[float, tuple[Stage, Stage]] = {}
    for alpha in alphas:
        rows = parts.known(rows_stage(study, "ks", None, seed, scan, alpha=alpha))
        tuned = embed if alpha == 1 else parts.known(tune_stage(study, "partial", seed, rows=rows))
        made[alpha] = rows, tuned
    return made


def certification_recipe(table: CertificationTable, studies: Sequence[Study], scale: RecipeScale) -> Recipe:
    """Return the recipe of one table or figure: a certificate for each seed, of all alphas."""
    parts = RecipeParts(scale=scale)
    for study, seed, embed, scan in parts.embedded(studies):
        smalls = None
        if table.partially:
            every = tickets_tuned_alone(parts, study, embed, scan, scale.levels_of(PARTIAL_ALPHAS), seed)
            smalls = {alpha: tuned for alpha, (_, tuned) in every.items()}
        stage = certify_stage(study, embed, scan, scale.levels_of(TRANSFER_ALPHAS), smalls)
        parts.cell(study, stage, figure="certificate", way="partial" if table.partially else "transfer", seed=seed)
    shown: dict[str, Any] = {"name": table.name, "rule": table.rule, "alphas": table.alphas}
    is_figure = table.name.startswith("figure")
    return parts.recipe(
        table.name,
        lambda finished: certification_tables(finished, **shown, resamples=scale.resamples),
        (lambda finished: certification_charts(finished, **shown)) if is_figure else None,
    )


def tuning_agreement_recipe(studies: Sequence[Study], scale: RecipeScale) -> Recipe:
    """Return the recipe `table6`: alpha selects the tickets, and the level of the second test is the same for each of them."""
    parts = RecipeParts(scale=scale)
    for study, seed, embed, scan in parts.embedded(studies):
        every = tickets_tuned_alone(parts, study, embed, scan, scale.levels_of(AGREEMENT_ALPHAS), seed)
        for alpha, (rows, tuned) in every.items():
            parts.cell(study, alike_stage(study, embed, tuned, rows), figure="agreement", alpha=alpha, seed=seed)
    return parts.recipe("table6", tuning_agreement_tables)


CERTIFICATION_RECIPES: dict[str, Callable[[Sequence[Study], RecipeScale], Recipe]] = {
    **{table.name: partial(certification_recipe, table) for table in CERTIFICATION_TABLES},
    "table6": tuning_agreement_recipe,
}
"""Name of a recipe to what builds it."""
