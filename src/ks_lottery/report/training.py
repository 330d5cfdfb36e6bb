"""A training on the terminal: a bar with tokens a second, the loss and the time left; and the lines of a dry run.

Must never write to standard error, nor decide anything.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from ks_lottery.report.screen import Screen


class Seen(Protocol):
    """How far a training is."""

    step: int
    steps: int
    tokens: int
    loss: float | None


def size(count: float) -> str:
    """Return bytes for people.

    >>> size(1_500_000), size(2_340_000_000)
    ('1.5 MB', '2.3 GB')
    """
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def duration(seconds: float) -> str:
    """Return a time for people.

    >>> duration(42.4), duration(600), duration(9000)
    ('42 s', '10 min', '2.5 h')
    """
    return (
        f"{seconds:.0f} s"
        if seconds < 100
        else f"{seconds / 60:.0f} min"
        if seconds < 6000
        else f"{seconds / 3600:.1f} h"
    )


@contextmanager
def training_bar(screen: Screen, title: str, *, silent: bool = False) -> Generator[Callable[[Any], None]]:
    """Show a training while its block runs; yields a function that takes its progress after each step."""
    screen.number += 1
    label = f"[{screen.number:>2}/{screen.total}] {title}"
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        TaskProgressColumn(),
        TextColumn("{task.fields[speed]}", markup=False),
        TextColumn("{task.fields[loss]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    live = screen.console.is_terminal and not silent
    start = time.perf_counter()
    first: list[tuple[float, int]] = []
    speed = ""
    with Progress(*columns, console=screen.console, transient=True, disable=not live) as progress:
        task = progress.add_task(label, total=None, speed="", loss="")

        def watch(seen: Seen) -> None:
            nonlocal speed
            now = time.perf_counter()
            if first:  # the first step, with what it sets up, does not count
                begun, before = first[0]
                speed = f"{(seen.tokens - before) / max(now - begun, 1e-9):,.0f} tokens/s"
            else:
                first.append((now, seen.tokens))
            loss = "" if seen.loss is None else f"loss {seen.loss:.3f}"
            progress.update(task, completed=seen.step, total=seen.steps, speed=speed, loss=loss)

        yield watch
    if not silent:
        screen.say(f"{label}: {time.perf_counter() - start:.1f} s" + (f", {speed}" if speed else ""))


def plan_lines(plan: Mapping[str, Any]) -> list[str]:
    """Return what a dry run prints.

    Parameters
    ----------
    plan
        Fields of `tuning.plan.Plan`, and ``memory_bytes``.
    """
    share = 100 * plan["trained"] / plan["total"]
    return [
        f"trained parameters: {plan['trained']:,} of {plan['total']:,} ({share:.3g}%)",
        f"memory (an estimate): {size(plan['memory_bytes'])}, of which model {size(plan['model_bytes'])}, gradients and "
        f"optimizer {size(plan['state_bytes'])}, longest batch {size(plan['activation_bytes'])}",
        f"steps: {plan['steps']:,}, over {plan['examples']:,} examples of {plan['tokens']:,} tokens an epoch",
        f"time (an estimate, from two measured steps): {duration(plan['seconds'])}",
    ]
