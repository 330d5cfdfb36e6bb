"""The command `overlap`: how much sets of tickets share."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def add(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    parser.add_argument(
        "tickets",
        nargs="+",
        help="JSON files that select or a run wrote, each FILE or NAME=FILE, such as ca=runs/ca/...",
    )
    parser.add_argument("--top", type=int, default=30, metavar="N", help="rows to show side by side (default: 30)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.add_argument("--force", action="store_true", help="compare by row although the bases differ")


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from ks_lottery.cli._overlap import run_overlap

    return run_overlap(arguments)
