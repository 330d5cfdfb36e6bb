"""Where a command writes: checked before anything is computed, then a file, a folder or standard output."""

from __future__ import annotations

import shlex
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_lottery.cli.streams import write
from ks_lottery.config.fields import settings_of
from ks_lottery.config.values import values_of
from ks_lottery.store.ownership import STREAMS, check_not_input, check_replaceable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ks_lottery.report.section import Section

KINDS = {
    "scan": "scan", "select": "tickets", "explain": "explanation", "alike": "compared-tunings", "where": "where",
}  # fmt: skip
"""Commands that write one file, and the kind of artifact that it holds."""


def check_output(command: str, settings: Any) -> None:
    """Refuse an output that is an input of the command, or that would overwrite what is not ours.

    Folders are checked by the commands, which know what must be in them.

    Raises
    ------
    UserError
        See `ks_lottery.store.ownership`.
    """
    out = getattr(settings, "out", None)
    if out is None:
        return
    values = values_of(settings)
    inputs = {
        f"{item.name}": text
        for item in settings_of(type(settings))
        if item.name != "out"
        for text in _texts(values.get(item.name))
    }
    check_not_input(out, inputs, stream=command in KINDS)
    if command in KINDS and out not in STREAMS:
        check_replaceable(Path(out).expanduser(), KINDS[command])


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
        yield value.partition("=")[2] or value  # overlap takes NAME=FILE
    elif isinstance(value, dict):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _texts(part)


def is_stream(out: str | None) -> bool:
    """Say whether the result goes to standard output, which then has nothing else."""
    return out in STREAMS


def write_result(save: Callable[[Path], object], out: str) -> None:
    """Save a noun to a file, or its bytes to standard output.

    Parameters
    ----------
    save
        The noun's own `save`.
    """
    if not is_stream(out):
        save(Path(out))
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "result"
        save(file)
        sys.stdout.flush()
        with file.open("rb") as written:
            shutil.copyfileobj(written, sys.stdout.buffer)
        sys.stdout.buffer.flush()


def see_it(path: str | Path) -> str:
    """Return the line that every command which wrote a result ends with: how to look at it.

    >>> see_it("runs/my run")
    "See it: ks-lottery report 'runs/my run' --open"
    """
    return f"See it: ks-lottery report {shlex.quote(str(path))} --open"


def deliver(
    settings: Any,
    unit: str,
    *,
    save: Callable[[Path], object],
    content: Callable[[], object],
    sections: Callable[[], Sequence[Section]],
    quiet: bool = False,
    reported: bool = False,
) -> None:
    """Save a noun where ``--out`` says, and print it: as JSON with ``--json``, otherwise as tables.

    What is printed is made before anything is written, so that a setting that cannot be used leaves no file. Standard output
    has either the file or what is printed.

    Parameters
    ----------
    unit
        What the file holds each of: "unit", "ticket", "row".
    save, content, sections
        The noun's own methods: what it is as a file, as JSON, and as tables.
    quiet
        Print nothing.
    reported
        Whether `ks-lottery report` shows the file, which the last line then says.
    """
    from ks_lottery.report.screen import Screen
    from ks_lottery.store.files import to_json

    stream = is_stream(settings.out)
    json = to_json(content()) if settings.json and not stream else ""
    shown = [] if quiet or settings.json or stream else sections()
    if settings.out is not None:
        write_result(save, settings.out)
    write(json)
    screen = Screen()
    screen.show(shown)
    if settings.out is not None and shown:
        screen.say(f"Written to {settings.out}, with every {unit}.")
        if reported:
            screen.say(see_it(settings.out))
