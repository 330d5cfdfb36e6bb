"""The command `evaluate`: model and text in, scores with signatures and intervals out; a broken evaluation goes on.

Must never score another model's translations, nor write over those of another command.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_lottery.checkpoint.patch import RowPatch
from ks_lottery.errors import UserError
from ks_lottery.evaluation.comparison import Comparison, compare
from ks_lottery.evaluation.evaluate import Evaluation, Request, evaluate_model
from ks_lottery.evaluation.hypotheses import HYPOTHESES_FILE, JOURNAL_FILE
from ks_lottery.evaluation.measured import read_data
from ks_lottery.evaluation.scores import SCORED, check_metrics
from ks_lottery.models.equipped import equipped
from ks_lottery.models.load import load_model, open_checkpoint
from ks_lottery.report.evaluation_report import print_evaluation
from ks_lottery.report.screen import Screen
from ks_lottery.store.files import manifest, read_json, read_json_lines, to_json, write_json

if TYPE_CHECKING:
    import argparse

EVALUATION_FILE = "evaluation.json"


def run_evaluate(arguments: argparse.Namespace) -> int:
    """Do what the command line asks for, and return the exit code."""
    request = _request(arguments)
    scored = tuple(name for name in check_metrics(request.metrics) if name in SCORED)
    translates = bool(scored) or request.language
    others = _others(arguments, scored)
    screen, silent = Screen(total=1 + translates + ("accuracy" in request.metrics)), bool(arguments.json)
    out = Path(arguments.out)
    with screen.stage("open model and text", silent=silent):
        corpus = read_data(arguments)
        checkpoint = open_checkpoint(arguments.model)
        made = RowPatch.open(Path(arguments.patch)) if arguments.patch else None
        if made is not None:
            made.check_base(checkpoint)
        loaded = load_model(
            checkpoint, dtype=arguments.dtype, device=arguments.device, trust_remote_code=arguments.trust_remote_code
        )
    adapter = Path(arguments.adapter) if arguments.adapter else None
    with equipped(loaded, adapter if made is None else made, share_prefix=arguments.share_prefix) as model:
        made_from = {"base": checkpoint.describe(), "made": model.content, "text": corpus.fingerprint}
        _check_folder(out, made_from)
        found = evaluate_model(loaded, model, corpus, request, folder=out, stage=_stages(screen, silent=silent))
    comparison = _compared(found, out, others, scored, request)
    content = _save(out, found, comparison, made_from)
    if silent:
        sys.stdout.write(to_json(content))
    else:
        print_evaluation(screen.console, content)
        screen.say(f"\nEverything lies in {out}.")
    return 0


def _stages(screen: Screen, *, silent: bool) -> Any:
    return lambda title: screen.stage(title, silent=silent, unit="sentences")


def _request(arguments: argparse.Namespace) -> Request:
    metrics = [name.strip() for name in arguments.metrics.split(",") if name.strip()]
    return Request(
        metrics=metrics,
        language=arguments.language_check,
        positions=arguments.positions,
        num_beams=arguments.num_beams,
        max_new_tokens=arguments.max_new_tokens,
        generation={name: _value(value) for name, value in _named(arguments.generation, "--generation").items()},
        batch_size=arguments.batch_size,
        share_prefix=arguments.share_prefix,
        template=arguments.template,
        max_tokens=arguments.max_tokens,
        spm={name: Path(value) for name, value in _named(arguments.spm, "--spm").items()},
        resamples=arguments.resamples,
        confidence=arguments.confidence,
        seed=arguments.seed,
    )


def _named(entries: list[str], flag: str) -> dict[str, str]:
    for entry in entries:
        if "=" not in entry:
            raise UserError(f"{flag} takes NAME=VALUE, not {entry!r}")
    return dict(entry.split("=", 1) for entry in entries)


def _value(text: str) -> Any:
    """Read a number, a truth value or a list as JSON has them; everything else is text."""
    try:
        return json.loads(text.lower() if text.lower() in {"true", "false"} else text)
    except ValueError:
        return text


def _others(arguments: argparse.Namespace, scored: tuple[str, ...]) -> dict[str, list[dict[str, Any]]]:
    """Open the translations that are to be compared with, before anything is computed."""
    others: dict[str, list[dict[str, Any]]] = {}
    for name in arguments.against or ():
        file = Path(name) / HYPOTHESES_FILE
        if not file.is_file():
            raise UserError(f"{name} holds no {HYPOTHESES_FILE}: give the folder of an evaluation that is done")
        others[name] = read_json_lines(file)
    if others and not scored:
        raise UserError("--against compares translations, and no metric here scores them: add one to --metrics")
    return others


def _compared(
    found: Evaluation, out: Path, others: dict[str, list[dict[str, Any]]], scored: tuple[str, ...], request: Request
) -> Comparison | None:
    if not others or found.hypotheses is None:
        return None
    systems = {str(out): list(found.hypotheses)}
    references = {str(out): [pair.target for pair in found.text.corpus]}
    for name, lines in others.items():
        systems[name] = [line["hypothesis"] for line in lines]
        references[name] = [line["reference"] for line in lines]
    return compare(
        systems, references, metrics=scored, spm=request.spm, resamples=request.resamples, seed=request.seed,
        confidence=request.confidence,
    )  # fmt: skip


def _check_folder(out: Path, made_from: dict[str, Any]) -> None:
    """Refuse a folder that holds something else than an evaluation of this model on this text."""
    if not out.exists():
        return
    there = {file.name for file in out.iterdir()} if out.is_dir() else {""}
    if there - {EVALUATION_FILE, HYPOTHESES_FILE, JOURNAL_FILE, "scores.json", "predictions.parquet"}:
        raise UserError(f"{out} holds something else than an evaluation: give another --out")
    if EVALUATION_FILE in there:
        before = read_json(out / EVALUATION_FILE, "evaluation")["made_from"]
        other = [name for name, value in made_from.items() if before.get(name) != value]
        if other:
            what = {"base": "another model", "made": "another patch or adapter", "text": "another text"}[other[0]]
            raise UserError(f"{out} holds the evaluation of {what}: give another --out")


def _save(out: Path, found: Evaluation, comparison: Comparison | None, made_from: dict[str, Any]) -> dict[str, Any]:
    if found.scores is not None:
        found.scores.save(out / "scores.json")
    if found.predictions is not None:
        found.predictions.save(out / "predictions.parquet")
    content = {**found.content(), "comparison": None if comparison is None else comparison.content()}
    write_json(out / EVALUATION_FILE, {**manifest("evaluation", made_from=made_from, settings={}), **content})
    return content
