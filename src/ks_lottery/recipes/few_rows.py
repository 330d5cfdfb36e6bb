"""The short job: a few rows are trained for one task, and their answers are shown beside those of the original model."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ks_lottery.checkpoint.patch import PATCH_FILE
from ks_lottery.evaluation.evaluate import evaluate_with, predict_general
from ks_lottery.evaluation.predictions import Predictions
from ks_lottery.recipes.measurements import evaluation_spec
from ks_lottery.recipes.method_names import ORIGINAL
from ks_lottery.recipes.recommendation import recommend
from ks_lottery.recipes.run_stages import text_stage
from ks_lottery.recipes.stage import Made, Recipe, Stage
from ks_lottery.store.files import read_json, read_json_lines, write_json
from ks_lottery.store.manifest import digest_json
from ks_lottery.tuning.token_prompt import TOKEN_PROMPT
from ks_lottery.tuning.tune import prepare
from ks_lottery.tuning.tune_spec import TuneSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ks_lottery.recipes.job import Job
    from ks_lottery.recipes.stage import Tick, Work

SIZE = 18
"""Rows of the template that are trained: as many as the paper finds to be enough."""

PARTIAL = "partial"

SYSTEMS: dict[str, dict[str, Any]] = {
    PARTIAL: {"method": PARTIAL, "by": "template", "size": SIZE},
    TOKEN_PROMPT: {"method": TOKEN_PROMPT},
}
"""Method to what is trained; `ks-lottery tune` trains the same."""

SHOWN = 4
"""Sentences that are shown side by side."""


def few_rows_recipe(job: Job) -> Recipe:
    """Return the short job as a recipe."""
    config = job.config
    seed = {"seed": config.seed}
    training = {**asdict(config.model), **asdict(config.text), **asdict(config.train), **seed}
    measuring = {**asdict(config.model), **asdict(config.text), **asdict(config.evaluate), **seed}
    titles = {
        PARTIAL: f"partial tuning: {SIZE} rows of the prompt's template",
        TOKEN_PROMPT: "token prompt: unused tokens take the places of the template",
    }
    return Recipe(
        name="few-rows",
        inputs={
            "model": job.checkpoint.fingerprint, "corpus": job.report["fingerprint"], "general": digest_json(job.general),
        },
        stages=(
            text_stage(job),
            *(
                Stage(
                    name=method, title=titles[method], make=partial(_tune, job, method), inputs=("model", "text"),
                    settings={**training, **system},
                )
                for method, system in SYSTEMS.items()
            ),
            Stage(
                name="evaluate", title="translations and next-token accuracy", make=partial(_evaluate, job),
                inputs=("model", "text", "general", *SYSTEMS), settings=measuring,
            ),
            Stage(
                name="summary", title="summary", make=partial(_summary, job), inputs=("evaluate", *SYSTEMS),
                settings=measuring,
            ),
        ),
    )  # fmt: skip


def _tune(job: Job, method: str, work: Work) -> Made:
    text = job.config.text
    spec = TuneSpec(
        **SYSTEMS[method],
        template=text.template,
        max_tokens=text.max_tokens,
        seed=job.config.seed,
        settings=asdict(job.config.train),
        folder=work.unfinished,
    )
    result = prepare(job.loaded, job.split.train, spec).run(tick=work)
    folder = job.folder.method(method)
    result.save(folder, tokens=job.tokens)
    files = [folder / PATCH_FILE, job.folder.rows(method), job.folder.training(method)]
    return Made(files=files, log=[f"{len(result.product):,} rows trained{result.losses_said}"], shown=True)


def _evaluate(job: Job, tick: Tick) -> Made:
    spec = evaluation_spec(job, metrics=("chrf", "accuracy"))
    files: list[Path] = []
    log: list[str] = []
    methods = (ORIGINAL, *SYSTEMS)
    general_original = predict_general(spec, job.loaded, job.general)
    for number, method in enumerate(methods):
        patch, folder = job.patch(method), job.folder
        # A patch with a prompt of its own is measured with that prompt.
        asked = spec if patch.prompt is None else replace(spec, template=None)
        evaluation = evaluate_with(
            asked,
            job.loaded,
            job.split.test,
            patch,
            general=None if method == ORIGINAL else job.general,
            general_original=general_original,
        )
        parts = {
            "summary": folder.evaluation(method),
            "predictions": folder.predictions(method),
            "hypotheses": folder.hypotheses(method),
        }
        evaluation.save_parts(**parts)
        files += parts.values()
        ended = evaluation.ended or {}
        log.append(f"{method}: {ended['count']} of {ended['outputs']} outputs ended")
        tick(number + 1, len(methods))
    return Made(files=files, log=log)


def _summary(job: Job, tick: Tick) -> Made:
    evaluations = {name: read_json(job.folder.evaluation(name), "evaluation") for name in (ORIGINAL, *SYSTEMS)}
    outputs = {name: read_json_lines(job.folder.hypotheses(name)) for name in evaluations}
    text = job.config.text
    content = {
        "model": job.checkpoint.describe(),
        "text": {
            "source_language": text.source_language,
            "target_language": text.target_language,
            "train": len(job.train),
            "test": len(job.test),
        },
        "confidence": job.config.evaluate.confidence,
        "positions": evaluations[ORIGINAL]["next_token"]["positions"],
        "methods": {name: _figures(job, name, evaluation) for name, evaluation in evaluations.items()},
        "ship": _ship(job),
        "examples": _examples(outputs),
    }
    write_json(job.folder.summary, content)
    tick(1, 1)
    return Made(files=[job.folder.summary])


def _ship(job: Job) -> dict[str, Any]:
    """Return which of the two to ship."""
    names, settings = (ORIGINAL, *SYSTEMS), job.config.evaluate
    return recommend(
        {name: Predictions.open(job.folder.predictions(name)) for name in names},
        {name: job.patch(name).parameters for name in names},
        chosen=PARTIAL,
        original=ORIGINAL,
        bootstrap={"confidence": settings.confidence, "resamples": settings.resamples, "seed": job.config.seed},
    )


def _examples(outputs: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Return the first sentences that every system translated; one may have left out what its prompt makes too long."""
    by_source = {name: {row["source"]: row["hypothesis"] for row in rows} for name, rows in outputs.items()}
    shown = [row for row in outputs[ORIGINAL] if all(row["source"] in known for known in by_source.values())]
    return [
        {
            "source": row["source"],
            "reference": row["reference"],
            "outputs": {name: known[row["source"]] for name, known in by_source.items()},
        }
        for row in shown[:SHOWN]
    ]


def _figures(job: Job, method: str, evaluation: Mapping[str, Any]) -> dict[str, Any]:
    file = job.folder.method(method) / PATCH_FILE
    return {
        "trained_parameters": job.patch(method).parameters,
        "bytes": file.stat().st_size if file.is_file() else 0,
        "ended": evaluation["ended"],
        "first_line": evaluation["first_line"]["metrics"]["chrf"]["score"],
        "chrf": evaluation["scores"]["metrics"]["chrf"]["score"],
        "signature": evaluation["scores"]["metrics"]["chrf"]["signature"],
        "accuracy": evaluation["next_token"]["accuracy"],
        "interval": evaluation["next_token"]["accuracy_interval"],
        "forgetting": evaluation["forgetting"],
    }
