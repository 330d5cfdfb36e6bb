"""What the figures of the recipes of score tables show: figures 1, 5 and 8."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ks_lottery.recipes.score_rows import NAMES, ScoreRow, mean, places_of, row_of, score_rows
from ks_lottery.report.chart import Chart, Series

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ks_lottery.store.cells import FinishedCell

LEVELS = ("original", "embed", "full")
"""Systems that are drawn as levels."""

ACCURACY = "next-token accuracy"


def existence_charts(finished: Sequence[FinishedCell]) -> list[Chart]:
    """Return figure 1 for each model and pair: accuracy by number of rows, of tickets and of random rows."""
    return _charts(
        finished, "figure1", ("partial", "transfer", "random", "random-reachable"), "rows that are trained or moved"
    )


def token_charts(finished: Sequence[FinishedCell]) -> list[Chart]:
    """Return figure 8 for each model and pair: accuracy by number of rows, of partial tuning, transfer and frequency tuning."""
    return _charts(finished, "figure8", ("partial", "transfer", "frequency"), "rows that are trained or moved")


def frozen_charts(finished: Sequence[FinishedCell]) -> list[Chart]:
    """Return figure 5 for each model and pair: accuracy by number of frozen rows."""
    return _charts(finished, "figure5", ("frozen", "frozen-random"), "rows that are frozen")


def _charts(finished: Sequence[FinishedCell], name: str, systems: Sequence[str], x_title: str) -> list[Chart]:
    charts: list[Chart] = []
    places = places_of(finished)
    for number, ((model, pair), cells) in enumerate(places.items(), start=1):
        rows = score_rows(cells)
        levels = [(NAMES[system], row) for system in LEVELS if (row := row_of(rows, system)) is not None]
        charts.append(
            Chart(
                name=name if len(places) == 1 else f"{name}-{number}", title=f"{model.rstrip('/').rsplit('/', 1)[-1]}, {pair}",
                x_title=x_title, y_title=ACCURACY, is_log=True,
                series=[_series(system, [row for row in rows if row.system == system]) for system in systems],
                levels=[(called, mean(row.accuracies) or 0.0) for called, row in levels],
            )
        )  # fmt: skip
    return charts


def _series(system: str, rows: Sequence[ScoreRow]) -> Series:
    """Return the points of a system by number of rows, the mean over seeds of both; all-but systems by that of frozen rows."""
    points = sorted(
        (_number(row), mean(row.accuracies) or 0.0, min(row.accuracies), max(row.accuracies)) for row in rows
    )
    x, y, low, high = ([point[place] for point in points] for place in range(4))
    has_range = any(len(row.cells) > 1 for row in rows)
    return Series(name=NAMES[system], x=x, y=y, low=low if has_range else (), high=high if has_range else ())


def _number(row: ScoreRow) -> float:
    """Return the mean number of rows; of a system that freezes a set, the size of the set, which its name says."""
    if row.system.startswith("frozen") and row.set_name is not None:
        return float(row.set_name.rsplit(" ", 1)[-1])
    return mean(row.tokens or [0.0]) or 0.0
