"""Progress: one line a stage, while it runs a bar on a terminal or a line now and then elsewhere; and sections of a result.

Nothing is written to standard error, which is for the one line of an error.
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
from rich.text import Text

from ks_lottery.report.forms import duration, printable
from ks_lottery.report.heartbeat import EVERY, Heartbeat
from ks_lottery.report.table_layout import shortened_to
from ks_lottery.report.terminal import print_line, print_sections

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from rich.progress import Task

    from ks_lottery.report.section import Section


PERCENT, SHORTEST_TIMES, LONGEST_TIMES, FIGURE, SHORTEST_BAR, LONGEST_BAR = 5, 16, 30, 20, 5, 30
"""Characters of a terminal that the parts beside a bar take with the space before them, and that a bar takes."""


PACE_PERIOD = 86_400.0
"""Seconds over which the pace is measured that the time left follows from; with rich's 30, slow steps would have none."""


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
        Number of stages; 0 where it is not known yet: stages have no number then.
    console
        Where to print; standard output by default.
    every
        Seconds between two lines on a stage that still runs, where a bar cannot be shown.
    """

    def __init__(self, total: int = 1, console: Console | None = None, every: float = EVERY) -> None:
        self.console = console or _console()
        self.every = every
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
        with (
            self._bar(label, silent=silent, after=extra, pace="") as update,
            self._beating(label, silent=silent) as heartbeat,
        ):

            def tick(done: int, total: int) -> None:
                text = pace.after(done)
                update(completed=done, total=total, pace=text)
                heartbeat.update(done, total, text)

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
        with (
            self._bar(label, silent=silent, before=fields, speed="", loss="") as update,
            self._beating(label, silent=silent) as heartbeat,
        ):

            def watch(progress: TrainingProgress) -> None:
                speed = pace.after(progress.tokens)
                loss = "" if progress.loss is None else f"loss {progress.loss:.3f}"
                update(completed=progress.step, total=progress.steps, speed=speed, loss=loss)
                heartbeat.update(progress.step, progress.steps, ", ".join(filter(None, (speed, loss))))

            yield watch
        if not silent:
            self.say(f"{label}: {time.perf_counter() - start:.1f} s" + (f", {pace.text}" if pace.text else ""))

    def _label(self, title: str) -> str:
        if not self.total:
            return title
        self.number += 1
        return f"[{self.number:>2}/{self.total}] {title}"

    @contextmanager
    def _beating(self, label: str, *, silent: bool) -> Generator[Heartbeat]:
        """Yield what takes how far a stage is, and says it now and then where there is no terminal."""
        heartbeat = Heartbeat(label, self.say, self.every)
        if silent or self.console.is_terminal:
            yield heartbeat
        else:
            with heartbeat.beating():
                yield heartbeat

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
        label = shortened_to(printable(label), max(1, self.console.width - PERCENT - SHORTEST_TIMES))
        room = self.console.width - cell_len(label) - PERCENT
        short = room < LONGEST_TIMES
        room -= SHORTEST_TIMES if short else LONGEST_TIMES
        more = room >= FIGURE * len(before + after)
        room -= FIGURE * len(before + after) if more else 0
        columns = (
            TextColumn("{task.description}", markup=False),
            *([BarColumn(bar_width=min(LONGEST_BAR, room - 1))] if room > SHORTEST_BAR else []),
            _Share(),
            *(before if more else ()),
            _Times(short=short),
            *(after if more else ()),
        )
        live = self.console.is_terminal and not silent
        shown = Progress(
            *columns, console=self.console, transient=True, disable=not live, speed_estimate_period=PACE_PERIOD
        )
        with shown as progress:
            task = progress.add_task(label, total=None, **fields)

            def update(**changes: Any) -> None:
                progress.update(task, **changes)

            yield update


class _Share(ProgressColumn):
    """How much is done, in percent; nothing where it is not known how much there is to do."""

    def render(self, task: Task) -> Text:
        """Return the share."""
        return Text("" if task.total is None else f"{task.percentage:.0f}%")


class _Times(ProgressColumn):
    """The time since the start and, where it can be estimated, the time that is left; only the latter where room is short."""

    max_refresh = 0.5

    def __init__(self, *, short: bool) -> None:
        super().__init__()
        self.short = short

    def render(self, task: Task) -> Text:
        """Return the times with their names."""
        left = task.time_remaining
        times = [] if self.short and left is not None else [f"{duration(task.elapsed or 0.0)} elapsed"]
        times += [] if left is None else [f"{duration(left)} left"]
        return Text(", ".join(times), no_wrap=True)


class _Console(Console):
    """A console that leaves a reader that went away to the command line, which rich would end with exit code 1."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def _console() -> Console:
    """Return a console on standard output: 100 characters wide and plain text where that is no terminal, as in a notebook."""
    plain: dict[str, Any] = {"soft_wrap": True, "highlight": False, "force_jupyter": False}
    console = _Console(**plain)
    if not console.file.isatty():  # whatever the environment says, such as FORCE_COLOR
        console = _Console(**plain, force_terminal=False)
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
