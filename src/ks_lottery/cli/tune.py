"""The command `tune`: tune a model by a method of the paper."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_lottery.cli.output import see_it
from ks_lottery.config.choices import MEASURED, RECOMMENDED_RULE
from ks_lottery.config.groups import TextSource
from ks_lottery.config.settings import TrainConfig
from ks_lottery.config.train_commands import TuneOptions
from ks_lottery.config.values import shared
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from ks_lottery.checkpoint.reader import Checkpoint
    from ks_lottery.config.train_commands import TuneSettings
    from ks_lottery.corpus.corpus import Corpus
    from ks_lottery.report.screen import Screen
    from ks_lottery.store.work_folder import WorkFolder
    from ks_lottery.tuning.plan import Plan
    from ks_lottery.tuning.tune import TuneResult, TuneSpec, Tuning

LOGS = "logs"
"""Folder of TensorBoard's files, in the unfinished work and in the result."""


def run(settings: TuneSettings) -> int:
    """Run the command and return its exit code."""
    from contextlib import nullcontext

    import torch

    from ks_lottery.models.vocabulary import token_strings
    from ks_lottery.report.screen import Screen
    from ks_lottery.store.work_folder import WorkFolder, other_threads
    from ks_lottery.tuning.processes import joined_processes

    with joined_processes() as main:
        chooses = settings.method == "partial" and settings.tickets is None
        screen = Screen(total=2 + (chooses and (settings.by or RECOMMENDED_RULE) in MEASURED and not settings.dry_run))
        work = WorkFolder(Path(settings.out or f"runs/tune-{settings.method}"))
        work.check_kind("tuning")
        with screen.stage("open model and text", silent=not main):
            tuning, said = _prepared(settings, work)
        for sentence in said if main else []:
            screen.say(f"        {sentence}")
        _show(screen, tuning, silent=not main)
        if settings.dry_run:
            with screen.stage("measure two steps", silent=not main):
                plan = tuning.plan()
            _show(screen, plan, silent=not main)
            return 0
        manifest = tuning.manifest
        given = {name: getattr(settings, name) for name in ("train", "validation", "tickets", "also_rows")}
        if work.is_done(manifest, given):
            if main:
                screen.say(f"{work.out} was made by the same command before: nothing to do")
            return 0
        threads, before = torch.get_num_threads(), work.threads_before()
        if main and before is not None and before != threads:
            screen.say(f"        {other_threads(before, threads)}")
        with work.claimed(manifest, threads, given) if main else nullcontext():
            if tuning.spec.measures:
                title = f"choose {tuning.spec.size:,} rows by {tuning.spec.by} at the original model"
                with screen.stage(title, silent=not main, unit="sentences") as tick:
                    tuning = tuning.chosen(tick)
            with screen.training(f"{settings.method} tuning", silent=not main) as watch:
                result = tuning.run(watch=watch)
            if main:
                with work.publish(manifest, keep=[LOGS]) as folder:
                    result.save(folder, token_strings(tuning.loaded.tokenizer, tuning.loaded.checkpoint.vocabulary))
                _show(screen, result)
                screen.say(f"        written to {work.out}")
                screen.say(see_it(work.out))
    return 0


def _prepared(settings: TuneSettings, work: WorkFolder) -> tuple[Tuning, list[str]]:
    """Return the checked training, and what is said about texts and model; what needs no model is checked first."""
    from ks_lottery.models.load import open_checkpoint
    from ks_lottery.tuning.checks import check_packages, check_rows_given
    from ks_lottery.tuning.tune import prepare

    quantized = None if settings.method == "full" else settings.quantize  # a setting that full tuning refuses
    check_packages("nf4" if settings.method == "qlora" else quantized, settings.report_to)
    corpus, validation, said = _texts(settings)
    target = _target_text(settings)
    spec = None if target else _spec(settings, work.unfinished, {})
    checkpoint = open_checkpoint(settings.model)
    spec = spec or _spec(settings, work.unfinished, _frequencies(settings, checkpoint, target))
    check_rows_given(spec, checkpoint)
    return prepare(checkpoint, corpus, spec, validation), [*checkpoint.notes, *said]


def _show(screen: Screen, noun: Tuning | Plan | TuneResult[Any], *, silent: bool = False) -> None:
    for section in [] if silent else noun.sections():
        for sentence in section.sentences:
            screen.say(f"        {sentence}")


def _texts(settings: TuneSettings) -> tuple[Corpus, Corpus | None, list[str]]:
    """Return the texts to train on and to validate on, and what is said about them."""
    from ks_lottery.corpus.cleaned import cleaned_text
    from ks_lottery.corpus.selection import hold_out

    corpus, said = cleaned_text(settings.first_text(settings.train))
    if settings.validation is not None:
        validation, more = cleaned_text(settings.second_text(settings.validation))
        return corpus, validation, [*said, *(f"validation: {sentence}" for sentence in more)]
    if settings.validation_share is not None:
        return *hold_out(corpus, settings.validation_share), said
    return corpus, None, said


def _spec(settings: TuneSettings, folder: Path, frequencies: dict[int, int]) -> TuneSpec:
    from ks_lottery.store.files import read_json
    from ks_lottery.tickets.tickets import Tickets
    from ks_lottery.tuning.tune import TuneSpec

    return TuneSpec(
        **shared(settings, TuneOptions),
        settings=shared(settings, TrainConfig),
        tickets=None if settings.tickets is None else Tickets.open(Path(settings.tickets)),
        also_rows=None if settings.also_rows is None else Tickets.open(Path(settings.also_rows)),
        frequencies=frequencies,
        folder=folder,
        logs=folder / LOGS if "tensorboard" in settings.report_to else None,
        fsdp_config={} if settings.fsdp_config is None else read_json(Path(settings.fsdp_config)),
    )


def _target_text(settings: TuneSettings) -> list[str]:
    """Read the text of the target language that frequency tuning counts tokens in; empty for other methods."""
    if settings.corpus is None:
        return []
    if settings.method != "frequency":
        raise UserError(f"`corpus` is what frequency tuning counts tokens in, and has no use for {settings.method}")
    from ks_lottery.corpus.monolingual import read_sentences

    return read_sentences(
        TextSource(
            path=settings.corpus, source_language=settings.source_language, target_language=settings.target_language
        )
    )


def _frequencies(settings: TuneSettings, checkpoint: Checkpoint, sentences: list[str]) -> dict[int, int]:
    from ks_lottery.corpus.monolingual import token_counts
    from ks_lottery.models.load import load_tokenizer

    return token_counts(load_tokenizer(checkpoint, trust_remote_code=settings.trust_remote_code), sentences)
