"""The command line: one thin function a command, heavy imports inside them.

Must never decide anything, nor show a traceback for a mistake that the user can mend.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ks_lottery.config import RunConfig


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> None:  # type: ignore[override]
        from ks_lottery.errors import UserError

        raise UserError(f"{message} (see {self.prog} --help)")


def demo(arguments: argparse.Namespace) -> int:
    """Run the main job on the embedded model and text."""
    from ks_lottery.recipes.demo import demo_config

    return _run(demo_config(arguments.target, arguments.budget, arguments.seed), Path(arguments.out))


def _run(config: RunConfig, out: Path) -> int:
    from ks_lottery.pipeline import run
    from ks_lottery.report.screen import Screen
    from ks_lottery.report.table import print_summary

    screen = Screen(total=0)
    summary = run(config, out, screen)
    print_summary(screen.console, summary, summary["tickets"], str(out))
    return 0


def run(rest: Sequence[str]) -> int:
    """Run the main job on the user's own model and text."""
    from ks_lottery.settings import parse_run

    parsed = parse_run(rest)
    return 0 if parsed is None else _run(*parsed)


def translate(arguments: argparse.Namespace) -> int:
    """Translate sentences with a run's small model."""
    from ks_lottery.translation import translate_with_run

    sentences = arguments.text or [line.rstrip("\n") for line in sys.stdin if line.strip()]
    for block in translate_with_run(Path(arguments.run), sentences, method=arguments.method, compare=arguments.compare):
        sys.stdout.write(f"{block}\n")
    return 0


def export(arguments: argparse.Namespace) -> int:
    """Write a patch as an adapter or a merged model."""
    from ks_lottery.checkpoint.patch import RowPatch
    from ks_lottery.export import FORMATS
    from ks_lottery.models.load import open_checkpoint

    patch = RowPatch.open(Path(arguments.patch))
    checkpoint = open_checkpoint(arguments.base or patch.base["name"])
    FORMATS[arguments.to](checkpoint, patch, Path(arguments.out), force=arguments.force)
    sys.stdout.write(f"{len(patch)} rows of {checkpoint.name} written to {arguments.out} ({arguments.to})\n")
    return 0


def scan(arguments: argparse.Namespace) -> int:
    """Say what fine-tuning changed."""
    from ks_lottery.checkpoint.ahead import read_ahead
    from ks_lottery.checkpoint.source import EMBEDDING_NAMES, HEAD_NAMES

    whole = arguments.units in {"matrix-rows", "all"}
    read_ahead(arguments.base, arguments.tuned, modules=() if whole else EMBEDDING_NAMES + HEAD_NAMES)
    from ks_lottery.scan_command import run_scan

    return run_scan(arguments)


def select(arguments: argparse.Namespace) -> int:
    """Select tickets from a saved scan."""
    from ks_lottery.select_command import run_select

    return run_select(arguments)


def inspect(arguments: argparse.Namespace) -> int:
    """Show a text as the model will see it."""
    from ks_lottery.inspect_command import run_inspect

    return run_inspect(arguments)


def overlap(arguments: argparse.Namespace) -> int:
    """Compare sets of tickets."""
    from ks_lottery.overlap_command import run_overlap

    return run_overlap(arguments)


def explain(arguments: argparse.Namespace) -> int:
    """Say what tickets are."""
    from ks_lottery.explain_command import run_explain

    return run_explain(arguments)


def alike(arguments: argparse.Namespace) -> int:
    """Compare two tunings row by row."""
    from ks_lottery.alike_command import run_alike

    return run_alike(arguments)


def tune(arguments: argparse.Namespace) -> int:
    """Tune a model by a method of the paper."""
    from ks_lottery.tune_command import run_tune

    return run_tune(arguments)


def transfer(arguments: argparse.Namespace) -> int:
    """Restrict a patch to tickets."""
    from ks_lottery.tune_command import run_transfer

    return run_transfer(arguments)


def certify(arguments: argparse.Namespace) -> int:
    """Certify small models, audit the bound, guarantee agreement."""
    from ks_lottery.certify_command import run_certify

    return run_certify(arguments)


def evaluate(arguments: argparse.Namespace) -> int:
    """Measure a model: translations and their scores, next-token accuracy."""
    from ks_lottery.evaluate_command import run_evaluate

    return run_evaluate(arguments)


def _parser() -> _Parser:
    from importlib.metadata import version

    from ks_lottery.flags import add_inspect, add_scan, add_select

    parser = _Parser(
        prog="ks-lottery",
        description="Find, train, ship and certify the few embedding rows that fine-tuning a language model really moves.",
    )
    parser.add_argument("--version", action="version", version=f"ks-lottery {version('ks-lottery')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command", parser_class=_Parser)

    one = commands.add_parser("demo", help="the main job on the embedded model and text, in minutes")
    one.add_argument("--target", default="ca", help="language to translate to (default: ca)")
    one.add_argument(
        "--budget", default="default", choices=("default", "smoke"), help="default: 6 minutes; smoke: 90 s"
    )
    one.add_argument("--out", default="runs/demo", help="folder of the run (default: runs/demo)")
    one.add_argument("--seed", type=int, default=0, help="seed of every random choice (default: 0)")
    one.set_defaults(work=demo)

    commands.add_parser("run", help="the main job on your own model and text (see run --help)", add_help=False)

    add_inspect(
        commands.add_parser("inspect", help="a text as the model will see it: tokens, loss mask, lengths")
    ).set_defaults(work=inspect)
    _add_tune(commands)
    add_scan(
        commands.add_parser("scan", help="what fine-tuning changed: test every row of two checkpoints")
    ).set_defaults(work=scan)
    add_select(commands.add_parser("select", help="select tickets from a saved scan")).set_defaults(work=select)
    _add_evaluate(commands)
    _add_certify(commands)
    _add_analyses(commands)

    one = commands.add_parser("translate", help="translate with a run's small model")
    one.add_argument("run", help="folder of a run, such as runs/demo")
    one.add_argument("text", nargs="*", help="sentences; without one, each line of standard input")
    one.add_argument("--method", default="partial", help="whose rows to use: partial (default), transfer, embed, ...")
    one.add_argument("--compare", action="store_true", help="show the original model's answer beside it")
    one.set_defaults(work=translate)

    one = commands.add_parser("export", help="write a patch as a PEFT adapter or a merged model")
    one.add_argument("patch", help="folder of a patch, such as runs/demo/partial")
    one.add_argument("out", help="folder to write; new or empty")
    one.add_argument("--to", required=True, choices=("peft", "merged"), help="peft: an adapter; merged: a whole model")
    one.add_argument("--base", help="the base model, if it is no longer where the run found it")
    one.add_argument("--force", action="store_true", help="put the patch onto a base that it was not made on")
    one.set_defaults(work=export)
    return parser


def _add_tune(commands: Any) -> None:
    from ks_lottery.tuning.flags import add_flags

    add_flags(
        commands.add_parser("tune", help="tune a model: rows, LoRA, prefix and other methods of the paper")
    ).set_defaults(work=tune)
    one = commands.add_parser("transfer", help="put the tuned values of tickets alone into a patch of their own")
    one.add_argument("model", help="the base that the patch was made on")
    one.add_argument("patch", help="folder of a patch, such as embed tuning leaves")
    one.add_argument("--tickets", required=True, metavar="FILE", help="JSON file that select wrote")
    one.add_argument("--out", required=True, metavar="DIR", help="folder to write; new or empty")
    one.add_argument("--force", action="store_true", help="take the patch although it was made on other weights")
    one.set_defaults(work=transfer)


def _add_analyses(commands: Any) -> None:
    from ks_lottery.analyses.flags import add_alike, add_explain, add_overlap

    one = commands.add_parser("overlap", help="how much sets of tickets share, and which rows are in all of them")
    add_overlap(one).set_defaults(work=overlap)
    one = commands.add_parser("explain", help="what tickets are: tokens, ranks by rival scores, frequency in a text")
    add_explain(one).set_defaults(work=explain)
    one = commands.add_parser("alike", help="whether two tunings left rows with values distributed alike")
    add_alike(one).set_defaults(work=alike)


def _add_evaluate(commands: Any) -> None:
    from ks_lottery.evaluation.flags import add_flags

    add_flags(
        commands.add_parser("evaluate", help="translate a text and score it; next-token accuracy and loss")
    ).set_defaults(work=evaluate)


def _add_certify(commands: Any) -> None:
    from ks_lottery.certification.flags import add_flags

    add_flags(
        commands.add_parser("certify", help="when a small model answers like the tuned one: bound, audit, guarantee")
    ).set_defaults(work=certify)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0, or 2 for a mistake that the user can mend."""
    from ks_lottery.errors import UserError

    given = list(sys.argv[1:] if argv is None else argv)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # PEFT imports it where it is installed, and it warns
    try:
        if given[:1] == ["run"]:
            return run(given[1:])
        arguments = _parser().parse_args(given)
        return int(arguments.work(arguments))
    except UserError as error:
        sys.stderr.write(f"ks-lottery: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("ks-lottery: stopped; the same command goes on from the last finished stage\n")
        return 130
    except BrokenPipeError:
        return 0


if __name__ == "__main__":
    sys.exit(main())
