"""The stages of a run that measure what its methods trained: on the test text, on general text, and span by span."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from ks_lottery.errors import shortened
from ks_lottery.evaluation.evaluate import evaluate_with, predict_general
from ks_lottery.evaluation.evaluation_spec import EvaluationSpec
from ks_lottery.evaluation.located import where_with
from ks_lottery.evaluation.where_spec import WhereSpec
from ks_lottery.recipes.method_names import DRAWS, ORIGINAL
from ks_lottery.recipes.rivals import compared_methods
from ks_lottery.recipes.stage import Made

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from ks_lottery.evaluation.evaluation import Evaluation
    from ks_lottery.recipes.job import Job
    from ks_lottery.recipes.stage import Tick

LOCATED = "partial"
"""The method whose rows `measure_where` measures."""


def evaluation_spec(job: Job, metrics: tuple[str, ...] = ("bleu", "chrf", "accuracy")) -> EvaluationSpec:
    """Return how the models of a job are measured, as its config says; on text of one language nothing is translated."""
    metrics = ("accuracy",) if job.split.test.monolingual else metrics
    settings, text = job.config.evaluate, job.config.text
    return EvaluationSpec(
        metrics=metrics,
        translations=settings.translations,
        num_beams=settings.num_beams,
        max_new_tokens=settings.max_new_tokens,
        batch_size=settings.batch_size,
        share_prefix=job.config.train.share_prefix,
        template=text.template,
        max_tokens=text.max_tokens,
        resamples=settings.resamples,
        confidence=settings.confidence,
        seed=job.config.seed,
    )


def evaluate_methods(job: Job, tick: Tick) -> Made:
    """Evaluate each method of a run on its test text, and its forgetting on general text.

    The original predicts the general text once, and every method is compared with that.
    """
    spec = evaluation_spec(job)
    evaluations: dict[tuple[str, Sequence[str], bool], Evaluation] = {}
    files: list[Path] = []
    log: list[str] = []
    methods = compared_methods(job.config)
    general_original = predict_general(spec, job.loaded, job.general) if job.general else None
    for number, method in enumerate(methods):
        patch = job.patch(method)
        # Random rows stand in the table as the mean of their draws; their few translations would say nothing.
        asked = replace(spec, metrics=("accuracy",)) if method in DRAWS else spec
        known = (patch.content, asked.metrics, method == ORIGINAL)
        if known not in evaluations:
            evaluations[known] = evaluate_with(
                asked,
                job.loaded,
                job.split.test,
                patch,
                general=None if method == ORIGINAL else job.general or None,
                general_original=general_original,
            )
        evaluation = evaluations[known]
        folder = job.folder
        evaluation.save_parts(
            summary=folder.evaluation(method),
            predictions=folder.predictions(method),
            hypotheses=folder.hypotheses(method),
        )
        files += [folder.evaluation(method), folder.predictions(method)]
        files += [folder.hypotheses(method)] if evaluation.hypotheses is not None else []
        log.append(_line(method, evaluation))
        tick(number + 1, len(methods))
    settings = job.config.evaluate
    sentences = min(settings.translations, len(job.test))
    translated = [f"{sentences} sentences translated, {settings.num_beams} beams"] if spec.translates else []
    return Made(files=files, log=[*log, *translated])


def _line(method: str, evaluation: Evaluation) -> str:
    """Return the line of the log on one method."""
    summed, forgotten = evaluation.next_token or {}, evaluation.forgetting
    line = f"{method} accuracy {summed['accuracy']:.4f}, loss {summed['loss']:.4f} on {summed['positions']} positions"
    return line if forgotten is None else f"{line}; general text: loss {forgotten.loss_difference:+.4f}"


def not_located(job: Job) -> str | None:
    """Say why a run does not measure where its tickets act; None where it does."""
    if not job.config.evaluate.where_sentences:
        return "evaluate.where_sentences is 0"
    if job.split.test.monolingual:
        return "the text is of one language and has no instruction and source"
    if not len(job.tickets):
        return "there is no ticket"
    if any(example.in_source is None for example in job.test):
        return (
            "the source of a test sentence cannot be located in its prompt, since the tokenizer or its chat template "
            f"changes the text (text.template {shortened(job.config.text.template)})"
        )
    return None


def measure_where(job: Job, tick: Tick) -> Made:
    """Measure in which spans of the first test sentences the tickets act that partial tuning trained, as `where` does."""
    why = not_located(job)
    if why is not None:
        tick(1, 1)
        return Made(files=[], log=[f"not measured: {why}"])
    settings, text = job.config.evaluate, job.config.text
    spec = WhereSpec(
        template=text.template,
        max_tokens=text.max_tokens,
        batch_size=settings.batch_size,
        share_prefix=job.config.train.share_prefix,
        resamples=settings.resamples,
        confidence=settings.confidence,
        seed=job.config.seed,
    )
    corpus = job.split.test.head(settings.where_sentences)

    def stage(_: str) -> AbstractContextManager[Tick]:
        return nullcontext(tick)

    located = where_with(spec, job.loaded, job.patch(LOCATED), corpus, stage=stage)
    return Made(files=[located.save(job.folder.where)], log=[located.sentence])
