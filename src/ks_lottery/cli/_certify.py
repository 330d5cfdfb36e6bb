"""The command `certify`: model, tuned and small patches and text in, certificate, audit and guarantee out.

Must never write half a folder, nor call a bound a guarantee.
"""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_lottery.certification.certify import Request, certify_text
from ks_lottery.checkpoint.patch import RowPatch
from ks_lottery.config.settings import CertifyConfig
from ks_lottery.corpus.readers import read_corpus
from ks_lottery.errors import UserError
from ks_lottery.evaluation.measured import read_data
from ks_lottery.models.load import load_model, open_checkpoint
from ks_lottery.report.certificate_table import print_certificate
from ks_lottery.report.screen import Screen
from ks_lottery.store.files import new_folder, to_json
from ks_lottery.tickets.blocks import scan_sources
from ks_lottery.tickets.scan import Scan
from ks_lottery.tickets.tickets import Tickets

if TYPE_CHECKING:
    import argparse

    from ks_lottery.certification.certify import Certified
    from ks_lottery.checkpoint.reader import Checkpoint
    from ks_lottery.corpus.corpus import Corpus


def run_certify(arguments: argparse.Namespace) -> int:
    """Do what the command line asks for, and return the exit code."""
    screen = Screen(total=3)
    silent = bool(arguments.json)
    out = None if arguments.out is None else Path(arguments.out)
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and is not an empty folder: give another --out")
    with screen.stage("open model, patches and text", silent=silent):
        request = _request(arguments)
        corpus = read_data(arguments)
        checkpoint = open_checkpoint(arguments.model)
        tuned = RowPatch.open(Path(arguments.tuned))
        tuned.check_base(checkpoint)
        found = _scan(arguments, checkpoint, tuned)
    with screen.stage("load model", silent=silent):
        loaded = load_model(
            checkpoint, dtype=arguments.dtype, device=arguments.device, trust_remote_code=arguments.trust_remote_code
        )
    with screen.stage("predictions of every model", silent=silent) as tick:
        done = certify_text(loaded, tuned, found, corpus, request, tick=tick)
    if out is not None:
        _save(out, done)
    content = done.certificate.as_dict()
    if silent:
        sys.stdout.write(to_json(content))
        return 0
    if done.overlong:
        screen.say(f"        {done.overlong:,} sentences left out as longer than {arguments.max_tokens} tokens")
    screen.say(f"        {done.computed:,} of {done.passes:,} tokens computed, the rest shared between models")
    screen.console.print()
    title = "Certificate of partial transfers" if arguments.transfer else "Certificate of small models"
    print_certificate(screen.console, content, title, rule=arguments.rule, examples=arguments.examples)
    if out is not None:
        screen.say(f"\nEverything lies in {out}.")
    return 0


def _request(arguments: argparse.Namespace) -> Request:
    epsilon, delta = (None, arguments.delta) if arguments.choose is None else arguments.choose
    if arguments.small and arguments.choose is not None:
        raise UserError("--choose works on --transfer; a partially tuned model is certified as it is")
    alphas = tuple(dict.fromkeys(arguments.alphas))
    return Request(
        small={} if not arguments.small else _small(arguments.small),
        tickets=None if arguments.tickets is None else Tickets.open(Path(arguments.tickets)),
        config=replace(CertifyConfig(), alphas=alphas, tau=arguments.tau, positions=arguments.positions),
        calibration=_calibration(arguments),
        same_pool=arguments.same_pool,
        delta=delta,
        epsilon=epsilon,
        loss=arguments.loss,
        sizes=tuple(arguments.sizes or ()),
        template=arguments.template,
        max_tokens=arguments.max_tokens,
        batch_size=arguments.batch_size,
        share_prefix=arguments.share_prefix,
        seed=arguments.seed,
    )


def _small(folders: list[str]) -> dict[str, RowPatch]:
    """Open patches by the last part of their path, or by the whole path where that names two."""
    names = [Path(folder).name for folder in folders]
    if len(set(names)) < len(names) or {"original", "tuned"} & set(names):
        names = folders
    return {name: RowPatch.open(Path(folder)) for name, folder in zip(names, folders, strict=True)}


def _calibration(arguments: argparse.Namespace) -> Corpus | float | None:
    if arguments.calibration is None:
        return None
    number = _number(arguments.calibration)
    if number is not None:
        if arguments.calibration_target is not None:
            raise UserError("--calibration-target belongs to a calibration text, and --calibration is a number here")
        return number
    corpus = read_corpus(
        arguments.calibration,
        target=arguments.calibration_target,
        source_language=arguments.source_language,
        target_language=arguments.target_language,
        source_column=arguments.source_column,
        target_column=arguments.target_column,
    )
    return corpus if arguments.instruction is None else corpus.with_instruction(arguments.instruction)


def _number(text: str) -> float | None:
    """Read a share (0.5) or a number (200) of sentences; None where the text is neither, and so the name of a file."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _scan(arguments: argparse.Namespace, checkpoint: Checkpoint, tuned: RowPatch) -> Scan:
    """Scan base against tuned, or open the saved scan of these two."""
    if arguments.scan is None:
        return scan_sources(checkpoint, tuned, units="output" if tuned.side == "output" else "embedding")
    found = Scan.open(Path(arguments.scan))
    there: dict[str, Any] = {
        "base": found.made_from.get("base", {}).get("fingerprint"),
        "patch": found.made_from.get("patch"),
    }
    if there != {"base": checkpoint.fingerprint, "patch": tuned.content} or len(found.parts) != 1:
        raise UserError(f"{arguments.scan} is no scan of {checkpoint.name} against {arguments.tuned}: leave --scan out")
    return found


def _save(out: Path, done: Certified) -> None:
    with new_folder(out) as folder:
        done.certificate.save(folder)
        for name, predictions in done.predictions.items():
            predictions.save(folder / "predictions" / f"{name.replace('/', '_')}.parquet")
        if done.chosen is not None:
            done.chosen.save(folder / "chosen")
