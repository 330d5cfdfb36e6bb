"""What a figure shows: series of points over one axis, and levels; `ks_lottery.report.drawing` draws it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, kw_only=True)
class Series:
    """Points that belong together, joined by a line in the order of `x`.

    Parameters
    ----------
    name
        Entry of the legend.
    x, y
        Places of the points.
    low, high
        Range of each point over seeds or draws, shown as a bar; empty for none.
    is_line
        Whether the points are joined by a line.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    is_line: bool = True

    def __post_init__(self) -> None:
        """Check that every point has both places, and a range where there are ranges."""
        lengths = {len(self.x), len(self.y), *(len(bound) for bound in (self.low, self.high) if bound)}
        if len(lengths) > 1 or bool(self.low) != bool(self.high):
            raise ValueError(f"series {self.name!r} has lists of different lengths")


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One figure.

    Parameters
    ----------
    name
        Name of its files, without ending.
    title, x_title, y_title
        Texts above it and at its axes.
    series
        What is drawn.
    levels
        Horizontal lines by their entry in the legend, such as the score of the original model.
    is_log
        Whether the horizontal axis is logarithmic; points at 0 are then on its linear beginning.
    """

    name: str
    title: str
    x_title: str
    y_title: str
    series: Sequence[Series]
    levels: Sequence[tuple[str, float]] = ()
    is_log: bool = False
