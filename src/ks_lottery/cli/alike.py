"""The command `alike`: whether two tunings left rows with values distributed alike."""

from __future__ import annotations

import sys
from argparse import SUPPRESS
from typing import TYPE_CHECKING

from ks_lottery.cli.options import add_output
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    import argparse


def add(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    parser.add_argument("embed", help="folder of the embed-tuned patch")
    parser.add_argument("partial", help="folder of the partially tuned patch of the same base")
    parser.add_argument("--tickets", metavar="FILE", help="compare these rows (default: all that both patches change)")
    parser.add_argument(
        "--level", type=float, default=0.05, metavar="P",
        help="level of this test; the alpha of table 6 is the one that selected --tickets (default: 0.05)",
    )  # fmt: skip
    parser.add_argument("--alpha", nargs="*", help=SUPPRESS)
    parser.add_argument("--side", choices=("input", "output"), help="embedding, where both patches change both")
    add_output(parser, "rows to show, those that differ most (default: 10)", 10)


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    if arguments.alpha is not None:
        raise UserError(
            "alike has no --alpha: the level of the test is --level, and the alpha of table 6 is the one that selected "
            "--tickets"
        )
    from ks_lottery.report.screen import Screen
    from ks_lottery.store.files import to_json
    from ks_lottery.tickets.saved import alike_saved

    comparison = alike_saved(
        arguments.embed, arguments.partial, arguments.tickets, level=arguments.level, side=arguments.side
    )
    sections = comparison.sections(arguments.top)
    if arguments.out:
        comparison.save(arguments.out)
    if arguments.json:
        sys.stdout.write(to_json(comparison.as_dict()))
        return 0
    screen = Screen()
    screen.show(sections)
    if arguments.out:
        screen.say(f"Every row lies in {arguments.out}.")
    return 0
