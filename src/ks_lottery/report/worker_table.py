"""Progress of several workers: a line for each finished stage and, on a terminal, what each worker does now."""

from __future__ import annotations

import time
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from rich.progress import Progress, TextColumn, TimeElapsedColumn
from rich.table import Column

from ks_lottery.report.forms import duration, printable
from ks_lottery.report.heartbeat import Heartbeat

if TYPE_CHECKING:
    from collections.abc import Generator

    from rich.progress import TaskID

    from ks_lottery.report.screen import Screen


class WorkerTable:
    """Shows what workers do.

    Parameters
    ----------
    screen
        Where it is shown.
    total
        Number of stages.
    """

    def __init__(self, screen: Screen, total: int) -> None:
        self.screen, self.total, self.done = screen, total, 0
        column = Column(no_wrap=True, overflow="ellipsis")
        text = TextColumn("{task.description}", markup=False, table_column=column)
        live = self._live = screen.console.is_terminal
        self._progress = Progress(text, TimeElapsedColumn(), console=screen.console, transient=True, disable=not live)
        self._rows: dict[int, TaskID] = {}
        self._works: dict[int, str] = {}

    @contextmanager
    def shown(self) -> Generator[None]:
        """Show the table while a block runs; where there is no terminal, a line now and then."""
        heartbeat = _Workers(self, self.screen.every)
        with self._progress, nullcontext() if self._live else heartbeat.beating():
            self._rows[0] = self._progress.add_task(self._sum(), total=None)
            yield

    def works(self, worker: int, what: str) -> None:
        """Show what a worker does from now on.

        Parameters
        ----------
        worker
            Its number, from 1.
        """
        said = self._works[worker] = printable(f"worker {worker}: {what}")
        if worker in self._rows:
            self._progress.reset(self._rows[worker], description=said)
        else:
            self._rows[worker] = self._progress.add_task(said, total=None)

    def finished(self, title: str, how: str) -> None:
        """Say that a stage is finished.

        Parameters
        ----------
        how
            Time and worker, or that it was done before.
        """
        self.done += 1
        self.screen.say(f"[{self.done:>{len(str(self.total))}}/{self.total}] {title}: {how}")
        self._progress.update(self._rows[0], description=self._sum())

    def line(self) -> str:
        """Return how many stages are finished, and what each worker does now."""
        return "; ".join([self._sum(), *(self._works[worker] for worker in sorted(self._works))])

    def _sum(self) -> str:
        return f"{self.done:,} of {self.total:,} stages"


class _Workers(Heartbeat):
    """The line of a table of workers."""

    def __init__(self, table: WorkerTable, every: float) -> None:
        super().__init__("", table.screen.say, every)
        self.table = table

    def line(self) -> str:
        """Return the line of the table, with the time since the start."""
        return f"after {duration(time.monotonic() - self.start)}: {self.table.line()}"
