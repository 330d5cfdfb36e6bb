"""The recipe `transfer-matrix`: tickets of one language trained on another one, and all languages trained together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ks_lottery.errors import UserError
from ks_lottery.recipes.joint_study import joint_study
from ks_lottery.recipes.measure_stages import measure_stage
from ks_lottery.recipes.recipe_parts import RecipeParts
from ks_lottery.recipes.study_stages import rows_stage, scan_stage, tune_stage
from ks_lottery.recipes.study_texts import check_apart
from ks_lottery.recipes.transfer_matrix_tables import JOINT, transfer_matrix_tables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ks_lottery.recipes.recipe_scale import RecipeScale
    from ks_lottery.recipes.stage import Recipe, Stage
    from ks_lottery.recipes.study import Study


def transfer_matrix_recipe(studies: Sequence[Study], scale: RecipeScale) -> Recipe:
    """Return the recipe for some models and at least two pairs of languages.

    For each pair, as many rows as the first size of the scale are chosen by KS, and trained alone on the text of every pair.
    Beside them are embed tuning of each pair, and embed and partial tuning on all texts together, with rows chosen on them.

    Raises
    ------
    UserError
        When there is one pair alone, or the text that one pair is measured on has a sentence that another one is trained on.
    """
    parts = RecipeParts(scale=scale)
    for name in dict.fromkeys(study.name for study in studies):
        own = [study for study in studies if study.name == name]
        if len(own) < 2:
            raise UserError(
                f"`pairs`: {own[0].pair} is one pair, but this recipe compares several. Give two pairs or more"
            )
        _add_model(parts, own, scale)
    return parts.recipe("transfer-matrix", lambda finished: transfer_matrix_tables(finished, resamples=scale.resamples))


def _add_model(parts: RecipeParts, studies: Sequence[Study], scale: RecipeScale) -> None:
    joint, size = joint_study(studies), scale.sizes[0]
    for study in studies:
        check_apart(joint.train, study.test)
    parts.inputs |= joint.inputs
    for study in studies:
        parts.inputs |= study.inputs
        parts.cell(study, measure_stage(study, None), system="original", rows_of=None, size=None, seed=None)
    for seed in scale.every_seed:
        chosen: dict[str, Stage] = {}
        for study in (*studies, joint):
            embed = parts.known(tune_stage(study, "embed", seed))
            scan = parts.known(scan_stage(study, embed))
            rows = chosen[study.pair] = parts.known(rows_stage(study, "ks", size, seed, scan))
            if study is joint:
                partial = parts.known(tune_stage(study, "partial", seed, rows=rows))
                for system, product in (("embed", embed), ("partial", partial)):
                    sized = size if system == "partial" else None
                    for each in studies:
                        there = each.called(" after all texts together")
                        parts.inputs |= there.inputs
                        stage = measure_stage(there, product)
                        parts.cell(each, stage, system=system, rows_of=JOINT, size=sized, seed=seed)
            else:
                parts.cell(study, measure_stage(study, embed), system="embed", rows_of=study.pair, size=None, seed=seed)
        for study in studies:
            for pair in (other.pair for other in studies):
                there = study if pair == study.pair else study.called(f" of {pair}")
                parts.inputs |= there.inputs
                partial = parts.known(tune_stage(there, "partial", seed, rows=chosen[pair]))
                parts.cell(study, measure_stage(there, partial), system="partial", rows_of=pair, size=size, seed=seed)
