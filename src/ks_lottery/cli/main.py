"""The command line: the parser of the command that was typed, and exit codes."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = {
    "demo": "the main job on the embedded model and text, in minutes",
    "run": "the main job on your own model and text",
    "inspect": "a text as the model will see it: tokens, loss mask, lengths",
    "tune": "tune a model: rows, LoRA, prefix and other methods of the paper",
    "transfer": "put the tuned values of tickets alone into a patch of their own",
    "scan": "what fine-tuning changed: test every row of two checkpoints",
    "select": "select tickets from a saved scan",
    "evaluate": "translate a text and score it; next-token accuracy and loss",
    "certify": "when a small model answers like the tuned one: bound, audit, guarantee",
    "overlap": "how much sets of tickets share, and which rows are in all of them",
    "explain": "what tickets are: tokens, ranks by rival scores, frequency in a text",
    "alike": "whether two tunings left rows with values distributed alike",
    "translate": "translate with a run's small model",
    "export": "write a patch as a PEFT adapter or a merged model",
}
"""Command to its line of help; each has a file of its name beside this one, with `add` (its flags) and `run`."""

WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
"""How the threads of torch wait for each other: asleep. By default they spin, and on a busy machine a thread that spins takes
time from the one that it waits for (benchmarks/busy.py)."""

RESUMABLE = frozenset({"demo", "run", "tune", "evaluate"})
"""Commands that keep what they have done, so that the same command resumes."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> None:  # type: ignore[override]
        """Raise the error as the user's."""
        raise UserError(f"{message} (see {self.prog} --help)")


def build_parser(command: str | None) -> Parser:
    """Return the parser, with the flags of `command` alone: no other command's are parsed."""
    from importlib.metadata import version

    parser = Parser(
        prog="ks-lottery",
        description="Find, train, ship and certify the few embedding rows that fine-tuning a language model really moves.",
    )
    parser.add_argument("--version", action="version", version=f"ks-lottery {version('ks-lottery')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command", parser_class=Parser)
    for name, summary in COMMANDS.items():
        one = commands.add_parser(name, help=summary)
        if name == command:
            _module(name).add(one)
    return parser


def _module(command: str) -> Any:
    return import_module(f"ks_lottery.cli.{command}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    0, 1 for a check that failed, 2 for a mistake that the user can mend, 130 after Ctrl-C.

    Parameters
    ----------
    argv
        Arguments without the program's name; by default those of the process.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    command = next((word for word in given if not word.startswith("-")), None)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Read when torch is loaded, here and in every process that this one starts.
    if not WAITING.keys() & os.environ.keys():
        os.environ.update(WAITING)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # PEFT imports it where it is installed, and it warns
    try:
        if given[:1] == ["run"]:  # its flags are the fields of a config, which another parser reads
            return int(_module("run").run(given[1:]))
        arguments = build_parser(command).parse_args(given)
        return int(_module(arguments.command).run(arguments))
    except UserError as error:
        sys.stderr.write(f"ks-lottery: {error}\n")
        return 2
    except KeyboardInterrupt:
        more = "; the same command resumes from what is done" if command in RESUMABLE else ""
        sys.stderr.write(f"ks-lottery: stopped{more}\n")
        return 130
    except BrokenPipeError:
        return 0
