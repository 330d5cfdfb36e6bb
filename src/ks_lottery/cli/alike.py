"""The command `alike`: whether two tunings left rows with values distributed alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ks_lottery.cli.options import add_output

if TYPE_CHECKING:
    import argparse


def add(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    parser.add_argument("embed", help="folder of the embed-tuned patch")
    parser.add_argument("partial", help="folder of the partially tuned patch of the same base")
    parser.add_argument("--tickets", metavar="FILE", help="compare these rows (default: all that both patches change)")
    parser.add_argument(
        "--alpha", type=float, nargs="+", default=[0.05], metavar="A", help="levels of the test (default: 0.05)"
    )
    parser.add_argument("--side", choices=("input", "output"), help="embedding, where both patches change both")
    add_output(parser, "rows to show, those that differ most (default: 10)", 10)


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from ks_lottery.cli._alike import run_alike

    return run_alike(arguments)
