"""Progress of several workers: a line for each finished stage and, on a terminal, what each worker does now."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import Progress, TextColumn, TimeElapsedColumn
from rich.table import Column

from ks_lottery.report.forms import printable

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
        live = screen.console.is_terminal
        self._progress = Progress(text, TimeElapsedColumn(), console=screen.console, transient=True, disable=not live)
        self._rows: dict[int, TaskID] = {}

    @contextmanager
    def shown(self) -> Generator[None]:
        """Show the table while a block runs."""
        with self._progress:
            self._rows[0] = self._progress.add_task(self._sum(), total=None)
            yield

    def works(self, worker: int, what: str) -> None:
        """Show what a worker does from now on.

        Parameters
        ----------
        worker
            Its number, from 1.
        """
        said = printable(f"worker {worker}: {what}")
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

    def _sum(self) -> str:
        return f"{self.done:,} of {self.total:,} stages"
