"""Progress of a run on the terminal: one line a stage, with a bar and the time left while it runs.

Must never write to standard error, which is for the one line of an error, nor decide anything.
"""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


class Screen:
    """Shows stages.

    Parameters
    ----------
    total
        Number of stages.
    console
        Where to print; standard output by default.
    """

    def __init__(self, total: int, console: Console | None = None) -> None:
        self.console = console or Console(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else 100)
        self.total = total
        self.number = 0

    def say(self, text: str) -> None:
        """Print a line."""
        self.console.print(text, markup=False)

    def skipped(self, title: str) -> None:
        """Print that a stage was done by an earlier call."""
        self.number += 1
        self.say(f"[{self.number:>2}/{self.total}] {title}: done before")

    @contextmanager
    def stage(self, title: str, *, silent: bool = False, unit: str = "") -> Generator[Callable[[int, int], None]]:
        """Show a stage while its block runs; yields a function that takes what is done and what there is to do.

        Parameters
        ----------
        unit
            Name of what is counted, in the plural: its number a second is shown too, beside the bar and in the last line. What
            was done at the first call is not counted, and the time before it is not either.
        """
        self.number += 1
        label = f"[{self.number:>2}/{self.total}] {title}"
        start = time.perf_counter()
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            *([TextColumn("{task.fields[pace]}", markup=False)] if unit else []),
        )
        pace = _Pace(unit)
        live = self.console.is_terminal and not silent
        with Progress(*columns, console=self.console, transient=True, disable=not live) as progress:
            task = progress.add_task(label, total=None, pace="")

            def tick(done: int, total: int) -> None:
                progress.update(task, completed=done, total=total, pace=pace.after(done))

            yield tick
        if not silent:
            said = [f"{time.perf_counter() - start:.1f} s", *([pace.text] if pace.text else [])]
            self.say(f"{label}: {', '.join(said)}")


class _Pace:
    """How many a second were done since the first call of `after`."""

    def __init__(self, unit: str) -> None:
        self.unit = unit
        self.first: tuple[int, float] | None = None
        self.text = ""

    def after(self, done: int) -> str:
        now = time.perf_counter()
        if self.first is None:
            self.first = done, now
        seconds = now - self.first[1]
        if self.unit and done > self.first[0] and seconds > 0:
            self.text = f"{(done - self.first[0]) / seconds:.1f} {self.unit}/s"
        return self.text
