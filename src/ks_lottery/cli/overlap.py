"""The command `overlap`: how much sets of tickets share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ks_lottery.cli.streams import write
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ks_lottery.config.ticket_commands import OverlapSettings


def run(settings: OverlapSettings) -> int:
    """Run the command and return its exit code."""
    from ks_lottery.report.screen import Screen
    from ks_lottery.store.files import to_json
    from ks_lottery.tickets.saved import overlap_saved

    shared = overlap_saved(_named(settings.tickets), seeds_of=settings.seeds_of, force=settings.force)
    sections = shared.sections(settings.top)
    if settings.json:
        write(to_json(shared.as_dict()))
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
            raise UserError(f"{text!r} is not the name of a set: give FILE or NAME=FILE")
        if name in files:
            raise UserError(f"two sets are called {name}: give each a name of its own, as NAME=FILE")
        files[name] = file
    return files
