"""The command `transfer`: the tuned values of tickets in a patch of their own, which is partial transfer."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def add(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    parser.add_argument("model", help="the base that the patch was made on")
    parser.add_argument("patch", help="folder of a patch, such as embed tuning leaves")
    parser.add_argument("--tickets", required=True, metavar="FILE", help="JSON file that select wrote")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write; new or empty")
    parser.add_argument("--force", action="store_true", help="take the patch although it was made on other weights")


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from ks_lottery.cli._tune import run_transfer

    return run_transfer(arguments)
