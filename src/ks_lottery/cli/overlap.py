"""The command `overlap`: how much sets of tickets share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ks_lottery.errors import UserError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence


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
    from ks_lottery.report.screen import Screen
    from ks_lottery.store.files import to_json
    from ks_lottery.tickets.saved import overlap_saved

    shared = overlap_saved(_named(arguments.tickets), force=arguments.force)
    sections = shared.sections(arguments.top)
    if arguments.json:
        sys.stdout.write(to_json(shared.as_dict()))
    else:
        Screen().show(sections)
    return 0


def _named(given: Sequence[str]) -> dict[str, str]:
    """Return the files by what they are called: ``name=file``, or the file as it was given."""
    files: dict[str, str] = {}
    for text in given:
        name, equals, file = text.partition("=")
        if Path(text).is_file() or not equals:
            name, file = text, text
        if not name or not file:
            raise UserError(f"{text!r} names no set: give FILE or NAME=FILE")
        if name in files:
            raise UserError(f"two sets are called {name}: give each a name of its own, as NAME=FILE")
        files[name] = file
    return files
