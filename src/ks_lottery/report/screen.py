"""Progress on the terminal: one line a stage, with a bar and the time left while it runs; and the sections of a result.

Nothing is written to standard error, which is for the one line of an error.
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ks_lottery.report.forms import printable
from ks_lottery.report.terminal import print_line, print_sections

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from ks_lottery.report.section import Section


class TrainingProgress(Protocol):
    """How far a training is."""

    @property
    def step(self) -> int:
        """Steps done."""
        ...

    @property
    def steps(self) -> int:
        """Steps in all."""
        ...

    @property
    def tokens(self) -> int:
        """Input tokens seen."""
        ...

    @property
    def loss(self) -> float | None:
        """The last loss."""
        ...


class Screen:
    """Shows stages and results.

    Parameters
    ----------
    total
        Number of stages.
    console
        Where to print; standard output by default.
    """

    def __init__(self, total: int = 1, console: Console | None = None) -> None:
        self.console = console or _console()
        self.total = total
        self.number = 0

    def say(self, text: str) -> None:
        """Print a line."""
        print_line(self.console, text)

    def show(self, sections: Sequence[Section]) -> None:
        """Print sections."""
        print_sections(self.console, sections)

    def skipped(self, title: str) -> None:
        """Print that a stage was done by an earlier call."""
        self.say(f"{self._label(title)}: done before")

    @contextmanager
    def stage(self, title: str, *, silent: bool = False, unit: str = "") -> Generator[Callable[[int, int], None]]:
        """Show a stage while its block runs; yields a function that takes what is done and what there is to do.

        Parameters
        ----------
        unit
            Name of what is counted, in the plural: its number a second is shown too, beside the bar and in the last line. What
            was done at the first call is not counted, and the time before it is not either.
        """
        label, start, pace = self._label(title), time.perf_counter(), _Pace(unit)
        extra = (TextColumn("{task.fields[pace]}", markup=False),) if unit else ()
        with self._bar(label, silent=silent, after=extra, pace="") as update:

            def tick(done: int, total: int) -> None:
                update(completed=done, total=total, pace=pace.after(done))

            yield tick
        if not silent:
            said = [f"{time.perf_counter() - start:.1f} s", *([pace.text] if pace.text else [])]
            self.say(f"{label}: {', '.join(said)}")

    @contextmanager
    def training(self, title: str, *, silent: bool = False) -> Generator[Callable[[TrainingProgress], None]]:
        """Show a training while its block runs; yields a function that takes its progress after each step.

        Tokens a second are shown too; the first step, with what it sets up, does not count.
        """
        label, start, pace = self._label(title), time.perf_counter(), _Pace("tokens", digits=0)
        fields = tuple(TextColumn(f"{{task.fields[{name}]}}", markup=False) for name in ("speed", "loss"))
        with self._bar(label, silent=silent, before=fields, speed="", loss="") as update:

            def watch(progress: TrainingProgress) -> None:
                speed = pace.after(progress.tokens)
                loss = "" if progress.loss is None else f"loss {progress.loss:.3f}"
                update(completed=progress.step, total=progress.steps, speed=speed, loss=loss)

            yield watch
        if not silent:
            self.say(f"{label}: {time.perf_counter() - start:.1f} s" + (f", {pace.text}" if pace.text else ""))

    def _label(self, title: str) -> str:
        self.number += 1
        total = f"/{self.total}" if self.total else ""
        return f"[{self.number:>2}{total}] {title}"

    @contextmanager
    def _bar(
        self,
        label: str,
        *,
        silent: bool,
        before: tuple[ProgressColumn, ...] = (),
        after: tuple[ProgressColumn, ...] = (),
        **fields: Any,
    ) -> Generator[Callable[..., None]]:
        """Show a bar on a terminal, with more columns before and after its times; yields what updates it."""
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            TaskProgressColumn(),
            *before,
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            *after,
        )
        live = self.console.is_terminal and not silent
        with Progress(*columns, console=self.console, transient=True, disable=not live) as progress:
            task = progress.add_task(printable(label), total=None, **fields)

            def update(**changes: Any) -> None:
                progress.update(task, **changes)

            yield update


class _Console(Console):
    """A console that leaves a reader that went away to the command line, which rich would end with exit code 1."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def _console() -> Console:
    """Return a console on standard output: 100 characters wide where that is no terminal."""
    console = _Console(soft_wrap=True, highlight=False)
    if not console.file.isatty():
        console.width = 100
    return console


class _Pace:
    """How many a second were done since the first call of `after`."""

    def __init__(self, unit: str, digits: int = 1) -> None:
        self.unit = unit
        self.digits = digits
        self.first: tuple[int, float] | None = None
        self.text = ""

    def after(self, done: int) -> str:
        now = time.perf_counter()
        if self.first is None:
            self.first = done, now
        seconds = now - self.first[1]
        if self.unit and done > self.first[0] and seconds > 0:
            self.text = f"{(done - self.first[0]) / seconds:,.{self.digits}f} {self.unit}/s"
        return self.text
