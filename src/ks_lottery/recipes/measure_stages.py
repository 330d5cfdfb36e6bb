"""The stage that measures the product of a tuning, or the original model, and writes the figures of a cell."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from ks_lottery.checkpoint.patch import PATCH_FILE, RowPatch
from ks_lottery.evaluation.evaluate import evaluate_with
from ks_lottery.evaluation.evaluation_spec import EvaluationSpec
from ks_lottery.models.equipped import WEIGHTS, open_product
from ks_lottery.recipes.stage import Cost, Made, Stage, made_figures
from ks_lottery.recipes.study import BATCH
from ks_lottery.recipes.study_stages import CODE
from ks_lottery.store.files import read_json
from ks_lottery.store.manifest import digest_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ks_lottery.evaluation.evaluation import Evaluation
    from ks_lottery.evaluation.predictions import Predictions
    from ks_lottery.recipes.stage import Work
    from ks_lottery.recipes.study import Study


def measure_stage(study: Study, product: Stage | None, *, translate: bool = False) -> Stage:
    """Return the stage that measures the base with the product of a tuning (None: the base alone), as `evaluate` does.

    Its folder has ``predictions.parquet`` and the figures of a cell (`figures_of`): accuracy and loss on the test text, also
    without end-of-sentence positions, and what each sentence adds; what was forgotten on its source side; bytes that are
    shipped.

    Parameters
    ----------
    translate
        Translate the first sentences too, as many as the scale says: scores, those of the first line, and what ended.
    """
    of = "the original model" if product is None else product.name.partition(": ")[2]
    inputs = {"model": study.model_input, "text": study.test_input}
    inputs |= {} if product is None else {"product": product.name}
    translations = translations_of(study, translate=translate)
    what = f"measure{' and translate with' if translations else ''}{study.variant and f'{study.variant}:'} {of}"
    return Stage(
        name=f"{study.name} {study.pair}: {what}", title=study.titled(what),
        make=partial(_measure, study, translations), prepare=lambda: study.general_original, inputs=inputs, kind="measure",
        code=CODE["measure"], settings=settings_of(study, translations), cost=lambda: cost_of(study, translations),
    )  # fmt: skip


def translations_of(study: Study, *, translate: bool) -> int:
    """Return how many sentences are translated."""
    return min(study.scale.translations, len(study.test)) if translate else 0


def settings_of(study: Study, translations: int) -> dict[str, Any]:
    """Return the settings that measured figures depend on."""
    scale = study.scale
    if not translations:
        return {**study.prompt, "batch_size": BATCH}
    generation = {"translations": translations, "num_beams": scale.num_beams, "max_new_tokens": scale.max_new_tokens}
    scored = {"spm": {name: digest_file(file) for name, file in study.spm.items()}} if study.spm else {}
    return {**study.prompt, "batch_size": BATCH, **generation, **scored}


def cost_of(study: Study, translations: int) -> Cost:
    """Return what measuring costs."""
    examples = study.test_examples
    return Cost(
        pace="predict",
        tokens=2 * sum(len(example) - 1 for example in examples) + translations * study.scale.max_new_tokens,
        memory=study.model_bytes,
        disk=40 * sum(len(example.response) for example in examples),
    )


def _measure(study: Study, translations: int, work: Work) -> Made:
    folder = work.inputs.get("product")
    product = None if folder is None else open_product(folder, study.checkpoint)
    spec = evaluation_of(study, translations, product.prompt if isinstance(product, RowPatch) else None)
    made = evaluate_with(
        spec, study.loaded, study.test, product, general=study.general, general_original=study.general_original
    )
    shipped: dict[str, Any] = {"rows": 0, "parameters": 0, "bytes": 0}
    if isinstance(product, RowPatch):
        size = (work.inputs["product"] / PATCH_FILE).stat().st_size
        shipped = {"rows": len(product), "parameters": product.parameters, "bytes": size}
    elif product is not None:
        trained = read_json(product / "training.json")["parameters"]
        shipped = {"rows": None, "parameters": trained, "bytes": (product / WEIGHTS).stat().st_size}
    return write_figures(made, shipped, work)


def evaluation_of(study: Study, translations: int, template: str | None = None) -> EvaluationSpec:
    """Return how models of a study are measured.

    Parameters
    ----------
    translations
        First sentences that are translated too; 0 for none.
    template
        Prompt of the product's own; None for that of the study.
    """
    scale = study.scale
    scored = ("bleu", "chrf", *(f"spbleu-{name}" for name in study.spm)) if translations else ()
    return EvaluationSpec(
        metrics=("accuracy", *scored), translations=translations or None, num_beams=scale.num_beams,
        max_new_tokens=scale.max_new_tokens, batch_size=BATCH, max_tokens=study.max_tokens,
        template=study.template if template is None else template, spm=study.spm,
    )  # fmt: skip


def write_figures(made: Evaluation, shipped: Mapping[str, Any], work: Work) -> Made:
    """Write what was measured: the predictions, and the figures of the cell.

    Parameters
    ----------
    shipped
        ``rows``, ``parameters`` and ``bytes`` of the product.
    """
    assert made.predictions is not None  # noqa: S101 (accuracy was asked for)
    made.predictions.save(work.folder / "predictions.parquet")
    content = made.content()
    scored = ("scores", "first_line", "ended") if made.settings["translations"] is not None else ()
    figures = {
        **shipped,
        **figures_of(made.predictions), "without_end": content["next_token"]["without_end"],
        "forgetting": content["forgetting"], **{name: content[name] for name in scored},
    }  # fmt: skip
    return made_figures(figures, work)


def figures_of(predictions: Predictions) -> dict[str, Any]:
    """Return accuracy and loss, and what each sentence adds to them.

    Returns
    -------
    dict
        ``accuracy``; ``loss``, in nats a token; and ``sentences`` (`Predictions.by_sentence`).
    """
    return {"accuracy": predictions.accuracy, "loss": predictions.loss, "sentences": predictions.by_sentence()}
