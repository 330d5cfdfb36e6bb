"""Progress of a library call: a bar when it was asked for, and nothing otherwise."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


@contextmanager
def progress_bar(title: str, *, show: bool, unit: str = "") -> Generator[Callable[[int, int], None] | None]:
    """Show a stage on standard output while its block runs, as the commands do.

    Parameters
    ----------
    title
        Name of the stage.
    show
        Without it nothing is printed, and the block gets None.
    unit
        What is counted, in the plural; its number a second is shown too.
    """
    if not show:
        yield None
        return
    from ks_lottery.report.screen import Screen

    with Screen().stage(title, unit=unit) as tick:
        yield tick
