"""What tables show of several seeds: means, ranges, differences with intervals, and the cells of one model and pair."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ks_lottery.stats.crossed import CrossedDifference
    from ks_lottery.store.cells import FinishedCell

Bounds = tuple[float, float]
"""Lower and upper end."""


def mean(values: Iterable[float]) -> float:
    """Return the mean of one value or more."""
    found = list(values)
    return sum(found) / len(found)


def mean_if_any(values: Iterable[float]) -> float | None:
    """Return the mean; None of nothing."""
    found = list(values)
    return mean(found) if found else None


def mean_figure(cells: Iterable[FinishedCell], name: str) -> float:
    """Return the mean of a figure of one cell or more."""
    return mean(cell.figures[name] for cell in cells)


def spread(values: Sequence[float]) -> Bounds | None:
    """Return the least and the largest of two or more values; None of fewer."""
    return (min(values), max(values)) if len(values) > 1 else None


def with_interval(difference: CrossedDifference | None) -> tuple[float | None, Bounds | None]:
    """Return a difference and its interval, each for a column of its own."""
    return (None, None) if difference is None else (difference.estimate, (difference.low, difference.high))


def places_of(finished: Sequence[FinishedCell]) -> dict[tuple[str, str], list[FinishedCell]]:
    """Return the cells of each model and pair of languages, both in their order."""
    places: dict[tuple[str, str], list[FinishedCell]] = {}
    for cell in finished:
        places.setdefault((cell.about["model"], cell.about["pair"]), []).append(cell)
    return places
