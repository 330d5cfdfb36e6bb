"""The command `evaluate`: translations and their scores, next-token accuracy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ks_lottery.cli.streams import write
from ks_lottery.config.measure_commands import EvaluateOptions
from ks_lottery.config.values import shared
from ks_lottery.evaluation.evaluation_spec import EvaluationSpec

if TYPE_CHECKING:
    from ks_lottery.config.measure_commands import EvaluateSettings


def run(settings: EvaluateSettings) -> int:
    """Run the command and return its exit code."""
    spec = _spec(settings)
    from ks_lottery.checkpoint.patch import RowPatch
    from ks_lottery.corpus.source import read_text
    from ks_lottery.evaluation.evaluate import evaluate_with
    from ks_lottery.evaluation.evaluation_checks import check_evaluation
    from ks_lottery.models.equipped import open_product
    from ks_lottery.models.load import load_model, open_checkpoint
    from ks_lottery.models.tokenized import tokenizer_of
    from ks_lottery.report.screen import Screen
    from ks_lottery.store.files import to_json

    screen, silent = Screen(total=1 + spec.translates + spec.predicts), bool(settings.json)
    with screen.stage("open model and text", silent=silent):
        corpus = read_text(settings.first_text(settings.data))
        checkpoint = open_checkpoint(settings.model)
        patch = RowPatch.open(Path(settings.patch)) if settings.patch else None
        product = open_product(patch or settings.adapter, checkpoint)
        tokenized = tokenizer_of(checkpoint, trust_remote_code=settings.trust_remote_code)
        text = check_evaluation(spec, tokenized, corpus, product, settings.out)
        loaded = load_model(
            checkpoint, dtype=settings.dtype, device=settings.device, trust_remote_code=settings.trust_remote_code
        )
    evaluation = evaluate_with(
        spec, loaded, corpus, product, folder=settings.out, text=text,
        stage=lambda title: screen.stage(title, silent=silent, unit="sentences"),
    )  # fmt: skip
    evaluation.save(settings.out)
    if silent:
        write(to_json(evaluation.content()))
    else:
        screen.console.print()
        screen.show(evaluation.sections())
        screen.say(f"\nWritten to {settings.out}.")
    return 0


def _spec(settings: EvaluateSettings) -> EvaluationSpec:
    return EvaluationSpec(
        **shared(settings, EvaluateOptions),
        language=settings.language_check,
        spm={name: Path(file) for name, file in settings.spm.items()},
        against=settings.against,
    )
