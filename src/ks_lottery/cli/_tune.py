"""The commands `tune` and `transfer`: text and model in, a folder out, whole or not at all; a broken training goes on.

Must never write a folder that other settings made, nor from more than one process of several.
"""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_lottery.checkpoint.patch import RowPatch
from ks_lottery.corpus.monolingual import read_sentences, token_counts
from ks_lottery.corpus.readers import read_corpus
from ks_lottery.corpus.selection import hash_fraction
from ks_lottery.errors import UserError
from ks_lottery.models.load import load_tokenizer, open_checkpoint
from ks_lottery.models.vocabulary import token_strings
from ks_lottery.report.screen import Screen
from ks_lottery.report.training import plan_lines, training_bar
from ks_lottery.store.files import digest_json, manifest, new_folder, read_json, write_error, write_json
from ks_lottery.tickets.tickets import Tickets
from ks_lottery.tuning.fitting import check_session
from ks_lottery.tuning.session import Session
from ks_lottery.tuning.task import Request, Task, make_ready

if TYPE_CHECKING:
    import argparse
    from collections.abc import Generator, Mapping

    from ks_lottery.checkpoint.reader import Checkpoint
    from ks_lottery.corpus.corpus import Corpus
    from ks_lottery.tuning.fitting import Fit, Outcome

MANIFEST = "manifest.json"
BEGUN = "begun.json"
SETTINGS = (
    "learning_rate", "epochs", "batch_size", "gradient_accumulation", "warmup_ratio", "max_grad_norm", "weight_decay",
    "share_prefix", "gradient_checkpointing",
)  # fmt: skip
"""Flags that are fields of `TrainConfig`."""


def run_tune(arguments: argparse.Namespace) -> int:
    """Do what the command line asks for, and return the exit code."""
    main = os.environ.get("RANK", "0") == "0"
    screen = Screen(total=2)
    _enter_processes()
    out = Path(arguments.out or f"runs/tune-{arguments.method}")
    with screen.stage("open model and text", silent=not main):
        checkpoint = open_checkpoint(arguments.model)
        corpus, held = _texts(arguments)
        task = make_ready(checkpoint, corpus, _request(arguments, checkpoint), validation=held)
    work = out.with_name(f"{out.name}.unfinished")
    session = _session(arguments, task, work)
    check_session(session, task.loaded.lm)
    made = _made_from(arguments, task, corpus, held)
    if main:
        for line in [*_left_out(corpus), *_lines(arguments, task)]:
            screen.say(f"        {line}")
    if arguments.dry_run:
        return _dry_run(screen, task, silent=not main)
    if _is_done(out, made):
        if main:
            screen.say(f"{out} was made by the same command before: nothing to do")
        return 0
    with _claimed(work, made) if main else _nothing():
        with training_bar(screen, f"{arguments.method} tuning", silent=not main) as watch:
            outcome, fit = task.train(replace(session, watch=watch))
        if main:
            _save(out, work, task, outcome, fit, made)
            for line in _result(out, outcome, fit):
                screen.say(f"        {line}")
    _leave_processes()
    return 0


def run_transfer(arguments: argparse.Namespace) -> int:
    """Put the patch's values of the tickets, and no others, into a patch of its own: partial transfer."""
    checkpoint = open_checkpoint(arguments.model)
    patch = RowPatch.open(Path(arguments.patch))
    patch.check_base(checkpoint, force=arguments.force)
    tickets = Tickets.open(Path(arguments.tickets))
    small = patch.restrict(tickets.ids)
    if arguments.force:
        small = replace(small, base=checkpoint.describe(), settings={**small.settings, "made_on": dict(patch.base)})
    out = Path(arguments.out)
    with new_folder(out) as folder:
        small.save(folder)
    absent = len(tickets) - len(small)
    missing = f"; {absent:,} tickets are rows that the patch leaves as they were" if absent else ""
    sys.stdout.write(f"{len(small):,} of {len(patch):,} rows written to {out}{missing}\n")
    return 0


def _texts(arguments: argparse.Namespace) -> tuple[Corpus, Corpus | None]:
    languages = {"source_language": arguments.source_language, "target_language": arguments.target_language}
    more = {
        key: getattr(arguments, key) for key in ("source_column", "target_column", "dataset_config", "dataset_split")
    }
    corpus = read_corpus(
        arguments.train,
        target=arguments.target,
        format=arguments.format,
        streaming=arguments.dataset_streaming,
        limit=arguments.limit,
        **languages,
        **more,
    )
    if arguments.instruction is not None:
        corpus = corpus.with_instruction(arguments.instruction)
    share = arguments.validation_share
    if arguments.validation is not None and share is not None:
        raise UserError("give --validation or --validation-share, not both")
    if arguments.validation is not None:
        held = read_corpus(arguments.validation, **languages)
        return corpus, held if arguments.instruction is None else held.with_instruction(arguments.instruction)
    if share is None:
        return corpus, None
    if not 0 < share < 1:
        raise UserError(f"--validation-share is {share}, but must be between 0 and 1")
    # By a hash of the source sentence, so that copies of a sentence stay on one side.
    inside = [hash_fraction(pair.source) < share for pair in corpus]
    kept_out = tuple(pair for pair, is_held in zip(corpus, inside, strict=True) if is_held)
    rest = tuple(pair for pair, is_held in zip(corpus, inside, strict=True) if not is_held)
    if not kept_out or not rest:
        raise UserError(f"{arguments.train}: {len(corpus)} pairs leave none on a side at --validation-share {share}")
    return replace(corpus, pairs=rest), replace(corpus, pairs=kept_out)


def _request(arguments: argparse.Namespace, checkpoint: Checkpoint) -> Request:
    tickets = None if arguments.tickets is None else Tickets.open(Path(arguments.tickets))
    counts: Mapping[int, int] = {}
    if arguments.corpus is not None:
        if arguments.method != "frequency":
            raise UserError(
                f"--corpus is what frequency tuning counts tokens in, and has no use for {arguments.method}"
            )
        languages = {"source_language": arguments.source_language, "target_language": arguments.target_language}
        counts = token_counts(load_tokenizer(checkpoint), read_sentences(arguments.corpus, **languages))
    return Request(
        method=arguments.method, tickets=tickets, size=arguments.size, frequencies=counts, side=arguments.side,
        layers=arguments.layers, quantize=arguments.quantize, template=arguments.template, max_tokens=arguments.max_tokens,
        dtype=arguments.dtype, device=arguments.device, trust_remote_code=arguments.trust_remote_code,
        seed=arguments.seed, settings={key: getattr(arguments, key) for key in SETTINGS},
    )  # fmt: skip


def _made_from(arguments: argparse.Namespace, task: Task, corpus: Corpus, held: Corpus | None) -> dict[str, Any]:
    """Return everything that the result depends on."""
    chosen = {} if task.rows is None else {"rows": digest_json(task.rows.ids.tolist())}
    validated = {} if held is None else {
        "validation": held.fingerprint, "patience": arguments.patience, "evaluate_every": arguments.evaluate_every
    }  # fmt: skip
    return manifest(
        "tuning",
        made_from={"base": task.loaded.checkpoint.describe(), "text": corpus.fingerprint, **chosen},
        settings={
            **task.described, "template": task.request.template, "max_tokens": task.request.max_tokens,
            "processes": int(os.environ.get("WORLD_SIZE", "1")), "fsdp": bool(arguments.fsdp), **validated,
        },
    )  # fmt: skip


def _left_out(corpus: Corpus) -> list[str]:
    """Say how many entries of the text are no pair, and why."""
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in corpus.left_out.items() if count)
    return [f"{corpus.origin}: {len(corpus):,} pairs; left out: {reasons}"] if reasons else []


def _lines(arguments: argparse.Namespace, task: Task) -> list[str]:
    config = task.config
    too_long = f"left out as too long: train {task.overlong:,}"
    if task.validation:
        too_long += f", validation {task.overlong_validation:,}"
    lines = [
        f"{len(task.examples):,} examples to train on, {len(task.validation):,} to validate on; {too_long}",
        f"learning rate {task.described['learning_rate']:g}, {task.described['epochs']:g} epochs, "
        f"batches of {config.batch_size} x {config.gradient_accumulation}",
    ]
    if config.gradient_checkpointing and config.share_prefix and task.request.method not in {"prefix", "prompt"}:
        lines.append(
            "gradient checkpointing: the shared prefix is switched off, since its keys and values must be kept"
        )
    if arguments.method == "random" and task.rows is not None:
        reached = {t for e in task.examples for t in e.sequence}
        hit = sum(int(row) in reached for row in task.rows.rows)
        lines.append(f"{hit:,} of the {len(task.rows):,} random rows occur in the text; the others cannot move")
    return lines


def _dry_run(screen: Screen, task: Task, *, silent: bool) -> int:
    from ks_lottery.tuning.plan import make_plan

    with screen.stage("measure two steps", silent=silent):
        plan = make_plan(task, processes=int(os.environ.get("WORLD_SIZE", "1")))
    for line in [] if silent else plan_lines({**asdict(plan), "memory_bytes": plan.memory_bytes}):
        screen.say(f"        {line}")
    return 0


def _is_done(out: Path, made: Mapping[str, Any]) -> bool:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    if not (out / MANIFEST).is_file():
        raise UserError(f"{out} exists and is no folder of a tuning: give another --out")
    _check_same(out, read_json(out / MANIFEST, "tuning"), made)
    return True


def _check_same(folder: Path, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    for part in ("made_from", "settings"):
        changed = [key for key in {**there[part], **here[part]} if there[part].get(key) != here[part].get(key)]
        if changed:
            key = changed[0]
            raise UserError(
                f"{folder} was made by another command: {key} is {there[part].get(key)!r} there and "
                f"{here[part].get(key)!r} here; give another --out, or remove it"
            )


@contextmanager
def _claimed(work: Path, made: Mapping[str, Any]) -> Generator[None]:
    """Keep the folder of an unfinished training for this process, and check that the same command began it."""
    from filelock import FileLock, Timeout

    try:
        work.mkdir(parents=True, exist_ok=True)
        lock = FileLock(work / ".lock")
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(f"another process works in {work}: wait for it, or give another --out") from error
    except OSError as error:
        raise write_error(work, error) from error
    with lock:
        if (work / BEGUN).is_file():
            _check_same(work, read_json(work / BEGUN, "tuning"), made)
        else:
            write_json(work / BEGUN, dict(made))
        yield


@contextmanager
def _nothing() -> Generator[None]:
    yield


def _session(arguments: argparse.Namespace, task: Task, work: Path) -> Session:
    trackers = [str(name) for name in arguments.report_to or []]
    config = {} if arguments.fsdp_config is None else read_json(Path(arguments.fsdp_config))
    return Session(
        folder=work, save_every=arguments.save_every, validation=task.validation,
        evaluate_every=arguments.evaluate_every, patience=arguments.patience, report_to=trackers,
        logs=work / "logs" if "tensorboard" in trackers else None, fsdp=arguments.fsdp, fsdp_config=config,
    )  # fmt: skip


def _save(out: Path, work: Path, task: Task, outcome: Outcome, fit: Fit, made: Mapping[str, Any]) -> None:
    if out.is_dir():
        out.rmdir()
    with new_folder(out) as folder:
        outcome.save(folder)
        if task.rows is not None:
            strings = token_strings(task.loaded.tokenizer, task.loaded.checkpoint.vocabulary)
            task.rows.save(folder / "rows.json", strings)
        losses = [{"step": step, "loss": loss} for step, loss in fit.losses]
        validation = [{"step": step, "loss": loss} for step, loss in fit.validation]
        training = {"parameters": outcome.parameters, "losses": losses, "validation": validation, "kept": fit.best_step}
        write_json(folder / "training.json", training)
        if (work / "logs").is_dir():
            shutil.copytree(work / "logs", folder / "logs")
        write_json(folder / MANIFEST, dict(made))
    shutil.rmtree(work, ignore_errors=True)


def _result(out: Path, outcome: Outcome, fit: Fit) -> list[str]:
    ends = f"; loss {fit.losses[0][1]:.3f} at first, {fit.losses[-1][1]:.3f} at last" if fit.losses else ""
    lines = [f"{outcome.parameters:,} parameters trained{ends}"]
    if fit.validation:
        best = min(fit.validation, key=lambda entry: entry[1])
        lines.append(f"validation loss {best[1]:.3f} at best, at step {best[0]}; kept: step {fit.best_step}")
    return [*lines, f"written to {out}"]


def _enter_processes() -> None:
    """Let each of several processes on one machine take its own GPU."""
    import torch

    if "LOCAL_RANK" in os.environ and torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))


def _leave_processes() -> None:
    import torch

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
