"""The command `translate`: sentences through the small model of a run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def add(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    parser.add_argument("run", help="folder of a run, such as runs/demo")
    parser.add_argument("text", nargs="*", help="sentences; without one, each line of standard input")
    parser.add_argument(
        "--method", default="partial", help="whose rows to use: partial (default), transfer, embed, ..."
    )
    parser.add_argument("--compare", action="store_true", help="show the original model's answer beside it")


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from ks_lottery.recipes.translation import translate_with_run

    sentences = arguments.text or [line.rstrip("\n") for line in sys.stdin if line.strip()]
    for answer in translate_with_run(
        Path(arguments.run), sentences, method=arguments.method, compare=arguments.compare
    ):
        if arguments.compare:
            name = f"{arguments.method}:"
            sys.stdout.write(f"source:   {answer.source}\noriginal: {answer.original}\n{name:<9} {answer.small}\n")
        else:
            sys.stdout.write(f"{answer.small}\n")
    return 0
