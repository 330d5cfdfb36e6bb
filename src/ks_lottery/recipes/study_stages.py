"""Stages that recipes are built from: tune, scan, choose rows, transfer; each calls the function of its floor."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from shutil import copytree
from typing import TYPE_CHECKING, Any

from ks_lottery.checkpoint.attribution import Attribution
from ks_lottery.checkpoint.patch import RowPatch
from ks_lottery.config.choices import ATTRIBUTIONS, SCORES
from ks_lottery.config.presets import process_count
from ks_lottery.corpus.monolingual import token_counts
from ks_lottery.models.dispatch import gpu_memory
from ks_lottery.models.gradients import gradients_of
from ks_lottery.models.load import load_model
from ks_lottery.models.rows import trainable_rows
from ks_lottery.recipes.stage import Cost, Made, Stage
from ks_lottery.store.run_folder import SCAN_FILE
from ks_lottery.tickets.compare import scan
from ks_lottery.tickets.scan import Scan
from ks_lottery.tickets.selectors import Basis, select_rows
from ks_lottery.tickets.tickets import Tickets
from ks_lottery.tuning.processes import share_of
from ks_lottery.tuning.token_prompt import TOKEN_PROMPT
from ks_lottery.tuning.transfer import transfer
from ks_lottery.tuning.tune import prepare
from ks_lottery.tuning.tune_spec import TuneSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from ks_lottery.models.load import LoadedModel
    from ks_lottery.recipes.stage import Work
    from ks_lottery.recipes.study import Study
    from ks_lottery.tuning.full import TunedModel
    from ks_lottery.tuning.trainable import TuneResult

CODE = {
    "tune": 3, "scan": 1, "gradients": 2, "rows": 2, "transfer": 2, "measure": 2, "where": 1, "origin": 1,
    "certify": 1, "alike": 1, "explain": 1, "layer": 1, "kinds": 1, "power": 1,
}  # fmt: skip
"""Kind of work to the version of its code. Raise it when the same inputs and settings give other numbers; a golden test
(tests/unit/test_study_stages.py) fails where that was forgotten."""

ROWS_FILE = "rows.json"


def tune_stage(
    study: Study,
    method: str,
    seed: int,
    *,
    rows: Stage | None = None,
    tokens: int | None = None,
    epochs: float | None = None,
) -> Stage:
    """Return the stage that tunes by a method.

    Its folder has what `ks-lottery tune` writes: the product, ``rows.json`` and ``training.json``.

    Parameters
    ----------
    rows
        Stage that chose the rows that are trained.
    tokens
        Number of tokens of a prompt, virtual or of its own; None for the method's default.
    epochs
        Passes over the text, in place of those of the scale.
    """
    what = f"{method} tuning" if rows is None else f"{method} tuning of {_chosen(rows, seed)}"
    what += "" if tokens is None else f" with {tokens:,} tokens"
    what += "" if study.variant in what else study.variant  # rows that were chosen in this variant are called by it
    inputs = {"model": study.model_input, "text": study.train_input, **({} if rows is None else {"rows": rows.name})}
    trained = tokens or (rows is not None and rows.settings["size"]) or study.reachable
    what += "" if epochs is None else f" for {epochs:g} epochs"
    training = {**study.scale.training_of(method), **({} if epochs is None else {"epochs": epochs})}
    train = partial(_train, study, method, seed, tokens, training)
    return Stage(
        name=f"{study.name} {study.pair}: {what}, seed {seed}", title=study.titled(f"{what}, seed {seed}"),
        make=partial(_tune, train), train=train, prepare=study.before_training, inputs=inputs, kind="tune",
        code=CODE["tune"],
        settings={
            "method": method, "seed": seed, **study.prompt, **training, **({} if tokens is None else {"tokens": tokens}),
        },
        cost=lambda: Cost(
            pace="train", tokens=round(_tokens(study) * training["epochs"]),
            memory=study.models.processes * study.model_bytes + 16 * trained * study.checkpoint.width,
            disk=4 * trained * study.checkpoint.width,
        ),
    )  # fmt: skip


def scan_stage(study: Study, embed: Stage) -> Stage:
    """Return the stage that compares the base with a tuning; its folder has ``scan.parquet``."""
    of = embed.name.partition(": ")[2]
    return Stage(
        name=f"{study.name} {study.pair}: scan of {of}", title=study.titled(f"scan of {of}"),
        make=partial(_scan, study), inputs={"model": study.model_input, "tuned": embed.name}, kind="scan",
        code=CODE["scan"], cost=lambda: Cost(disk=60 * study.checkpoint.vocabulary),
    )  # fmt: skip


def gradients_stage(study: Study) -> Stage:
    """Return the stage that measures the gradient of each row in one pass over the text, at the original model."""
    return Stage(
        name=f"{study.name} {study.pair}: gradients{study.variant}",
        title=study.titled(f"gradients in one pass{study.variant}"),
        make=partial(_gradients, study), prepare=lambda: study.loaded,
        inputs={"model": study.model_input, "text": study.train_input},
        kind="gradients", code=CODE["gradients"], settings={**study.prompt, "batch_size": study.scale.training.batch_size},
        cost=lambda: Cost(
            pace="gradient", tokens=_tokens(study), disk=24 * study.reachable,
            memory=study.model_bytes + 8 * study.reachable * study.checkpoint.width,
        ),
    )  # fmt: skip


def rows_stage(
    study: Study,
    rule: str,
    size: int | None,
    seed: int,
    basis: Stage | None = None,
    *,
    without: str | None = None,
    alpha: float | None = None,
    like: Stage | None = None,
) -> Stage:
    """Return the stage that chooses rows; its folder has ``rows.json``.

    Parameters
    ----------
    rule
        A selector, one of `ks_lottery.config.choices.SELECTORS`.
    size
        Number of rows; None for all that the rule can choose.
    basis
        Stage of the scan or of the gradients that the rule reads; None for rules that read the text.
    without
        Rows that are left out, one of `ks_lottery.config.choices.EXCLUSIONS`; None for none.
    alpha
        For ``ks``: every row with p < alpha, in place of a size.
    like
        Stage of another choice, of which as many rows are chosen; in place of a size.
    """
    read = {} if basis is None else {"basis": basis.name}
    read |= {} if like is None else {"like": like.name}
    shown = study.prompt if basis is None or without is not None else {}
    read |= {"text": study.train_input} if shown else {}
    drawn = {"seed": seed} if rule.startswith("random") else {}
    named = {"without": without, "alpha": alpha, "like": None if like is None else _described(like.settings)}
    more = {name: value for name, value in named.items() if value is not None}
    settings = {"rule": rule, "size": size, **more, **drawn, **shown}
    title = f"{_described(settings)}{study.variant}"
    if drawn or like is not None:
        title += f", seed {seed}"
    elif basis is not None and basis.kind in {"scan", "tune"}:
        title += f" after {basis.name.partition(': ')[2]}"
    return Stage(
        name=f"{study.name} {study.pair}: {title}", title=study.titled(title),
        make=partial(_rows, study, rule, size, seed, without, alpha), inputs={"model": study.model_input, **read}, kind="rows",
        code=CODE["rows"], settings=settings, cost=lambda: Cost(disk=100 * (size or study.reachable)),
    )  # fmt: skip


def transfer_stage(study: Study, embed: Stage, rows: Stage) -> Stage:
    """Return the stage that puts the tuned values of chosen rows into a patch of their own."""
    seed = embed.settings["seed"]
    title = f"transfer of {_chosen(rows, seed)}, seed {seed}"
    return Stage(
        name=f"{study.name} {study.pair}: {title}", title=study.titled(title), make=partial(_transfer, study),
        inputs={"model": study.model_input, "tuned": embed.name, "rows": rows.name}, kind="transfer",
        code=CODE["transfer"], cost=lambda: Cost(disk=4 * (rows.settings["size"] or study.reachable) * study.checkpoint.width),
    )  # fmt: skip


def _chosen(rows: Stage, seed: int) -> str:
    return rows.name.partition(": ")[2].removesuffix(f", seed {seed}")


def _described(settings: Mapping[str, Any]) -> str:
    number = "all" if settings["size"] is None else settings["size"]
    if "alpha" in settings:
        return f"rows of p < {settings['alpha']:g} by {settings['rule']}"
    if "like" in settings:
        return f"as many rows by {settings['rule']} as {settings['like']}"
    return f"{number} rows by {settings['rule']}" + (" outside the template" if settings.get("without") else "")


def _tokens(study: Study) -> int:
    return sum(len(example) - 1 for example in study.train_examples)


def _tune(train: Callable[[Work], Callable[[Path], object]], work: Work) -> Made:
    if work.trained is None:
        train(work)(work.folder)
    else:
        copytree(work.trained, work.folder, dirs_exist_ok=True)
    return Made(files=files_of(work.folder))


def _train(
    study: Study, method: str, seed: int, tokens: int | None, training: Mapping[str, Any], work: Work
) -> Callable[[Path], object]:
    """Tune, alone or as one of several processes, and return what saves the result."""
    tickets = Tickets.open(work.inputs["rows"] / ROWS_FILE) if "rows" in work.inputs else None
    models: Any = study.models  # whose type and device are resolved
    spec = TuneSpec(
        method=method, tickets=tickets, tokens="auto" if tokens is None else str(tokens), seed=seed,
        settings=share_of(training, process_count()), folder=work.unfinished, fsdp=models.shards, dtype=models.dtype,
        device=models.device, trust_remote_code=models.trust_remote_code, **study.prompt,
    )  # fmt: skip
    text = study.train if method == TOKEN_PROMPT else study.train_examples
    base = study.checkpoint if models.shards else study.loaded
    return partial(prepare(base, text, spec).run(tick=work).save, tokens=study.tokens)


def full_tuning(study: Study, seed: int, work: Work, layers: str | None = None) -> TuneResult[TunedModel]:
    """Tune every parameter, or those of some layers, of a copy of the model, alone or as one of several processes."""
    models: Any = study.models  # whose type and device are resolved
    spec = TuneSpec(
        method="full", layers=layers, seed=seed, settings=share_of(study.scale.training_of("full"), process_count()),
        folder=work.unfinished, fsdp=models.shards, dtype=models.dtype, device=models.device,
        trust_remote_code=models.trust_remote_code, **study.prompt,
    )  # fmt: skip
    return prepare(study.checkpoint, study.train_examples, spec).run(tick=work)


def tuned_model(study: Study, folder: Path) -> LoadedModel:
    """Load the model that several processes tuned, in float32 and on the GPUs of this process; `checkpoint` is the base."""
    models = study.models
    tuned = load_model(
        folder, dtype="float32", device=models.device, trust_remote_code=models.trust_remote_code,
        max_memory=gpu_memory(models.processes) if models.shards else None,
    )  # fmt: skip
    return replace(tuned, checkpoint=study.checkpoint)


def _scan(study: Study, work: Work) -> Made:
    scan(study.checkpoint, RowPatch.open(work.inputs["tuned"])).save(work.folder / SCAN_FILE, study.tokens)
    return Made(files=files_of(work.folder))


def _gradients(study: Study, work: Work) -> Made:
    size = study.scale.training.batch_size
    gradients_of(study.loaded, study.train_examples, batch_size=size, tick=work).save(work.folder)
    return Made(files=files_of(work.folder))


def _rows(
    study: Study, rule: str, size: int | None, seed: int, without: str | None, alpha: float | None, work: Work
) -> Made:
    if "like" in work.inputs:
        size = len(Tickets.open(work.inputs["like"] / ROWS_FILE))
    elif size is None and alpha is None:
        size = study.checkpoint.vocabulary
    basis = Basis(
        vocabulary=study.checkpoint.vocabulary,
        size=size,
        seed=seed,
        alpha=alpha,
        without=without,
        frequencies=token_counts(study.tokenizer, [pair.target for pair in study.train])
        if rule == "frequency"
        else None,
        scan=Scan.open(work.inputs["basis"] / SCAN_FILE) if rule in SCORES else None,
        attribution=Attribution.open(work.inputs["basis"]) if rule in ATTRIBUTIONS else None,
        examples=lambda: study.train_examples,
        reachable=lambda: trainable_rows([e.sequence for e in study.train_examples], study.loaded.lm, "input"),
    )
    select_rows(rule, basis).save(work.folder / ROWS_FILE, study.tokens)
    return Made(files=files_of(work.folder))


def _transfer(study: Study, work: Work) -> Made:
    tickets = Tickets.open(work.inputs["rows"] / ROWS_FILE)
    patch = RowPatch.open(work.inputs["tuned"])
    transfer(study.checkpoint, patch, tickets, allow_empty=True).save(work.folder)
    return Made(files=files_of(work.folder))


def files_of(folder: Path) -> list[Path]:
    """Return every file in the folder of a stage."""
    return sorted(file for file in folder.rglob("*") if file.is_file())
