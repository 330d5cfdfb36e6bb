"""A line every half a minute while something runs, where no bar can be shown: in a pipe, a log or a notebook."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ks_lottery.report.forms import duration

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

EVERY = 30.0
"""Seconds between two lines."""


class Heartbeat:
    """How far something is, and the line that says it.

    Parameters
    ----------
    label
        What runs.
    say
        Takes a line; called by another thread.
    every
        Seconds between two lines.
    """

    def __init__(self, label: str, say: Callable[[str], None], every: float = EVERY) -> None:
        self.label, self.say, self.every = label, say, every
        self.start = time.monotonic()
        self.first: tuple[int, float] | None = None
        self.done, self.total, self.more = 0, 0, ""

    def update(self, done: int, total: int, more: str = "") -> None:
        """Take what is done, what there is to do, and what else the line says."""
        self.first = self.first or (done, time.monotonic())
        self.done, self.total, self.more = done, total, more

    def line(self) -> str:
        """Return how far it is: the share, the time since the start and, as far as it is known, the time that is left."""
        now = time.monotonic()
        elapsed = duration(now - self.start)
        if self.first is None or self.total <= 0:
            return f"{self.label}: {elapsed} so far"
        parts = [f"{self.done / self.total:.0%} after {elapsed}"]
        done, since = self.done - self.first[0], now - self.first[1]
        if done > 0:
            parts.append(f"about {duration(since / done * (self.total - self.done))} left")
        return f"{self.label}: {', '.join([*parts, *([self.more] if self.more else [])])}"

    @contextmanager
    def beating(self) -> Generator[Heartbeat]:
        """Say the line every so often while a block runs; a line that cannot be written ends it."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(self.every):
                try:
                    self.say(self.line())
                except (OSError, ValueError):  # what was to be said is lost; the main thread notices by itself
                    return

        thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            over.set()
            thread.join(timeout=1.0)
