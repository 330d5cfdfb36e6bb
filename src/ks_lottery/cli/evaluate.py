"""The command `evaluate`: translations and their scores, next-token accuracy, forgetting."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ks_lottery.cli.output import see_it
from ks_lottery.cli.streams import write
from ks_lottery.config.measure_commands import EvaluateOptions
from ks_lottery.config.values import shared
from ks_lottery.errors import UserError
from ks_lottery.evaluation.evaluation_spec import EvaluationSpec

if TYPE_CHECKING:
    from ks_lottery.config.measure_commands import EvaluateSettings


def run(settings: EvaluateSettings) -> int:
    """Run the command and return its exit code."""
    spec = _spec(settings)
    from ks_lottery.checkpoint.patch import RowPatch
    from ks_lottery.corpus.cleaned import cleaned_text
    from ks_lottery.evaluation.evaluate import evaluate_with
    from ks_lottery.evaluation.evaluation_checks import check_before, check_evaluation
    from ks_lottery.models.equipped import check_adapter, open_on
    from ks_lottery.models.load import load_model, open_checkpoint
    from ks_lottery.models.tokenized import tokenizer_of
    from ks_lottery.report.screen import Screen
    from ks_lottery.store.files import to_json

    tuned = settings.patch is not None or settings.adapter is not None
    general_stages = 0 if settings.general is None else 1 + tuned
    screen, silent = Screen(total=1 + spec.translates + spec.predicts + general_stages), bool(settings.json)
    with screen.stage("open model and text", silent=silent):
        # What needs no model comes first: opening one may take minutes.
        (corpus, said), general = cleaned_text(settings.first_text(settings.data)), _general(settings)
        patch = RowPatch.open(Path(settings.patch)) if settings.patch else None
        if settings.adapter is not None:
            check_adapter(Path(settings.adapter).expanduser())
        for reason in check_before(spec, corpus).values():
            if not silent:
                screen.say(f"        One metric will be missing: {reason}")
        checkpoint = open_checkpoint(settings.model)
        for note in () if silent else checkpoint.notes:
            screen.say(f"        {note}")
        tokenized = tokenizer_of(checkpoint, trust_remote_code=settings.trust_remote_code)
        product, tokenized = open_on(patch or settings.adapter, tokenized)
        text = check_evaluation(spec, tokenized, corpus, product, settings.out, general)
        loaded = load_model(
            tokenized.checkpoint,
            dtype=settings.dtype,
            device=settings.device,
            trust_remote_code=settings.trust_remote_code,
        )
    for sentence in [] if silent else said:
        screen.say(f"        {sentence}")
    evaluation = evaluate_with(
        spec, loaded, corpus, product, general=general, folder=settings.out, text=text,
        stage=lambda title: screen.stage(title, silent=silent, unit="sentences"),
    )  # fmt: skip
    evaluation.save(settings.out)
    if silent:
        write(to_json(evaluation.content()))
    else:
        screen.console.print()
        screen.show(evaluation.sections())
        screen.say(f"\nWritten to {settings.out}.")
        screen.say(see_it(settings.out))
    return 0


def _general(settings: EvaluateSettings) -> list[str] | None:
    """Read the general text, which has a format of its own."""
    if settings.general is None:
        if settings.general_format != "auto":
            raise UserError("`general_format` describes a general text, and there is none: give `general` too")
        return None
    from ks_lottery.evaluation.general_text import general_sentences

    return general_sentences(replace(settings.second_text(settings.general), format=settings.general_format))


def _spec(settings: EvaluateSettings) -> EvaluationSpec:
    return EvaluationSpec(
        **shared(settings, EvaluateOptions),
        language=settings.language_check,
        spm={name: Path(file) for name, file in settings.spm.items()},
        against=settings.against,
    )
