"""The stage that tunes every parameter and measures the model at once: only the figures are kept, not the whole model."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ks_lottery.evaluation.evaluate import evaluate_with, predict_general
from ks_lottery.evaluation.general_text import forgetting, general_text
from ks_lottery.recipes.measure_stages import cost_of, evaluation_of, settings_of, translations_of, write_figures
from ks_lottery.recipes.stage import Cost, Made, Stage
from ks_lottery.recipes.study_stages import CODE, full_tuning, tuned_model
from ks_lottery.store.files import read_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from ks_lottery.models.load import LoadedModel
    from ks_lottery.recipes.stage import Work
    from ks_lottery.recipes.study import Study


def full_stage(study: Study, seed: int, *, translate: bool = False) -> Stage:
    """Return the stage that tunes every parameter, and measures the model as `measure_stage` does.

    Its folder has predictions and figures, and no weights: those of a whole model in float32 are larger than all other stages
    together. ``bytes`` of the figures is what they would take.
    """
    translations = translations_of(study, translate=translate)
    training = study.scale.training_of("full")
    what = f"full tuning, measured{' and translated with' if translations else ''}{study.variant}, seed {seed}"
    return Stage(
        name=f"{study.name} {study.pair}: {what}", title=study.titled(what), make=partial(_full, study, seed, translations),
        prepare=partial(_prepare, study), train=partial(_train, study, seed), kind="full",
        code=1000 * CODE["tune"] + CODE["measure"],
        inputs={"model": study.model_input, "text": study.train_input, "test": study.test_input},
        settings={"seed": seed, **training, "measured": settings_of(study, translations)},
        cost=lambda: _cost(study, translations),
    )  # fmt: skip


def _prepare(study: Study) -> None:
    """Measure the base, and free its memory where processes of their own train."""
    _ = study.general_original
    if study.models.processes > 1:
        study.models.release()


def _cost(study: Study, translations: int) -> Cost:
    """Return what the training costs, and the disk of what is measured; the tokens of measuring are few beside it."""
    epochs = study.scale.training_of("full")["epochs"]
    parameters = study.model_bytes // (2 if study.models.dtype == "bfloat16" else 4)
    return Cost(
        pace="train", tokens=round(sum(len(example) - 1 for example in study.train_examples) * epochs),
        memory=16 * study.models.processes * parameters, disk=cost_of(study, translations).disk,
    )  # fmt: skip


def _full(study: Study, seed: int, translations: int, work: Work) -> Made:
    original = study.general_original  # of the base, before its memory is freed
    tuned, parameters = _tuned(study, seed, work) if work.trained is None else _trained(study, work.trained)
    measured = evaluation_of(study, translations)
    made = evaluate_with(measured, tuned, study.test)
    general = general_text(tuned, study.general, max_tokens=study.max_tokens)
    after = predict_general(measured, tuned, study.general)
    # As for an adapter, no sentence is left untouched: any path says so.
    forgot = forgetting(general, after, original, Path(), bootstrap=measured.bootstrap)
    shipped = {"rows": None, "parameters": parameters, "bytes": 4 * parameters}
    return write_figures(replace(made, forgetting=forgot), shipped, work)


def _tuned(study: Study, seed: int, work: Work) -> tuple[LoadedModel, int]:
    """Tune the model in this process, and return it with the number of its parameters."""
    study.models.release()
    product = full_tuning(study, seed, work).product
    product.loaded.lm.eval()
    return product.loaded, product.parameters


def _trained(study: Study, folder: Path) -> tuple[LoadedModel, int]:
    """Return the model that several processes tuned, and the number of its parameters."""
    return tuned_model(study, folder), read_json(folder / "training.json")["parameters"]


def _train(study: Study, seed: int, work: Work) -> Callable[[Path], object]:
    return full_tuning(study, seed, work).save
