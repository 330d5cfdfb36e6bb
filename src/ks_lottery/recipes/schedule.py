"""Which stage a free worker makes next, and how long several workers take; plain values in, names out."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Schedule:
    """Stages that are to be made, of which those that do not depend on each other can be made at once.

    Parameters
    ----------
    needs
        Name of each stage to the names of those that it reads; each comes after those.
    weights
        How long each takes, in any unit; 0 for those that are not there.
    """

    def __init__(self, needs: Mapping[str, Sequence[str]], weights: Mapping[str, float]) -> None:
        self._needs = {name: set(read) for name, read in needs.items()}
        self._begun: set[str] = set()
        self._finished: set[str] = set()
        self.remaining = dict.fromkeys(needs, 0.0)
        """Name of each stage to the time from its begin to the end of the longest chain of stages that it begins."""
        for name in reversed(list(needs)):
            self.remaining[name] += weights.get(name, 0.0)
            for source in needs[name]:
                self.remaining[source] = max(self.remaining[source], self.remaining[name])

    @property
    def finished(self) -> int:
        """Number of stages that are finished."""
        return len(self._finished)

    @property
    def is_done(self) -> bool:
        """Whether every stage is finished."""
        return len(self._finished) == len(self._needs)

    def ready(self) -> list[str]:
        """Return the stages that can begin now; those that the longest chain begins with first, then in order."""
        free = [name for name, read in self._needs.items() if name not in self._begun and read <= self._finished]
        return sorted(free, key=lambda name: -self.remaining[name])

    def begin(self, name: str) -> None:
        """Note that a worker makes a stage."""
        self._begun.add(name)

    def again(self, name: str) -> None:
        """Note that a stage has to be made again, since its worker ended."""
        self._begun.discard(name)

    def finish(self, name: str) -> None:
        """Note that a stage is finished."""
        self._begun.add(name)
        self._finished.add(name)


def makespan(needs: Mapping[str, Sequence[str]], seconds: Mapping[str, float], workers: int) -> float:
    """Return the time that some workers take for all stages, in seconds, without that in which they start.

    Parameters
    ----------
    needs, seconds
        As `Schedule` takes them.
    workers
        How many there are, at least 1.
    """
    schedule, now = Schedule(needs, seconds), 0.0
    running: list[tuple[float, str]] = []
    while not schedule.is_done:
        for name in schedule.ready()[: workers - len(running)]:
            schedule.begin(name)
            heapq.heappush(running, (now + seconds.get(name, 0.0), name))
        now, name = heapq.heappop(running)
        schedule.finish(name)
    return now
