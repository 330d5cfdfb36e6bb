"""The command `evaluate`: translations and their scores, next-token accuracy."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_lottery.cli.options import add_data, add_model, text_source
from ks_lottery.errors import UserError
from ks_lottery.evaluation.evaluation_spec import EvaluationSpec

if TYPE_CHECKING:
    import argparse


def add(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    default = EvaluationSpec()
    parser.epilog = (
        "spBLEU needs sacrebleu's SentencePiece model, which is fetched once; or give its path. Without it the other metrics "
        "are scored, and one line says where to put the file. The same command resumes."
    )
    parser.add_argument("model", help="folder, GGUF file, hub id, or asset:smollm2-135m-instruct")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--patch", metavar="P", help="folder of a row patch to put on the model")
    which.add_argument("--adapter", metavar="A", help="folder of a PEFT adapter to put on the model")
    parser.add_argument(
        "--out", default="runs/evaluate", metavar="DIR", help="folder to write (default: runs/evaluate)"
    )
    parser.add_argument(
        "--metrics", default=",".join(default.metrics), metavar="M,M",
        help="spbleu (or spbleu-flores101, spbleu-flores200), bleu, chrf, accuracy (default: all)",
    )  # fmt: skip
    parser.add_argument(
        "--language-check", action="store_true", help="share of outputs in the target language (extra: language)"
    )
    parser.add_argument(
        "--against", nargs="+", default=(), metavar="DIR", help="other evaluations of the same text to compare with"
    )
    for flag, kind, said in (
        ("--positions", int, "first target positions that count for accuracy (default: all)"),
        ("--translations", int, "first sentences that are translated and scored (default: all)"),
        ("--resamples", int, f"number of resamples of the bootstrap (default: {default.resamples})"),
        ("--confidence", float, f"level of the intervals (default: {default.confidence})"),
    ):
        parser.add_argument(flag, type=kind, default=_default(default, flag), metavar="N", help=said)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    group = parser.add_argument_group("translation")
    for flag, said in (
        ("--num-beams", f"number of beams; 1 is greedy (default: {default.num_beams})"),
        ("--max-new-tokens", f"longest output in tokens (default: {default.max_new_tokens})"),
    ):
        group.add_argument(flag, type=int, default=_default(default, flag), metavar="N", help=said)
    for flag, form, said in (
        ("--generation", "KEY=VALUE", "more settings of generate, such as length_penalty=0.8"),
        ("--spm", "NAME=FILE", "SentencePiece model of flores101 or flores200"),
    ):
        group.add_argument(flag, nargs="+", default=[], metavar=form, help=said)
    add_data(parser)
    add_model(parser, seed=default.seed)


def _default(spec: EvaluationSpec, flag: str) -> Any:
    return getattr(spec, flag.removeprefix("--").replace("-", "_"))


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    spec = _spec(arguments)
    from ks_lottery.checkpoint.patch import RowPatch
    from ks_lottery.corpus.source import read_text
    from ks_lottery.evaluation.evaluate import evaluate_with
    from ks_lottery.models.equipped import open_product
    from ks_lottery.models.load import load_model, open_checkpoint
    from ks_lottery.report.screen import Screen
    from ks_lottery.store.files import to_json

    screen, silent = Screen(total=1 + spec.translates + spec.predicts), bool(arguments.json)
    with screen.stage("open model and text", silent=silent):
        corpus = read_text(text_source(arguments, arguments.data))
        checkpoint = open_checkpoint(arguments.model)
        patch = RowPatch.open(Path(arguments.patch)) if arguments.patch else None
        product = open_product(patch or arguments.adapter, checkpoint)
        loaded = load_model(
            checkpoint, dtype=arguments.dtype, device=arguments.device, trust_remote_code=arguments.trust_remote_code
        )
    evaluation = evaluate_with(
        spec, loaded, corpus, product, folder=arguments.out,
        stage=lambda title: screen.stage(title, silent=silent, unit="sentences"),
    )  # fmt: skip
    evaluation.save(arguments.out)
    if silent:
        sys.stdout.write(to_json(evaluation.content()))
    else:
        screen.console.print()
        screen.show(evaluation.sections())
        screen.say(f"\nEverything lies in {arguments.out}.")
    return 0


def _spec(arguments: argparse.Namespace) -> EvaluationSpec:
    return EvaluationSpec(
        metrics=[name.strip() for name in arguments.metrics.split(",") if name.strip()],
        language=arguments.language_check,
        positions=arguments.positions,
        translations=arguments.translations,
        num_beams=arguments.num_beams,
        max_new_tokens=arguments.max_new_tokens,
        generation={name: _value(value) for name, value in _named(arguments.generation, "--generation").items()},
        batch_size=arguments.batch_size,
        share_prefix=arguments.share_prefix,
        template=arguments.template,
        max_tokens=arguments.max_tokens,
        spm={name: Path(value) for name, value in _named(arguments.spm, "--spm").items()},
        against=tuple(arguments.against),
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
    """Read a number, a truth value or a list as in JSON; everything else is text."""
    try:
        return json.loads(text.lower() if text.lower() in {"true", "false"} else text)
    except ValueError:
        return text
