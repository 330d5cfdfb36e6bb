"""What the figures of the recipes of score tables show: figures 1, 5 and 8."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ks_lottery.recipes.over_seeds import mean_if_any, places_of
from ks_lottery.recipes.score_rows import NAMES, ScoreRow, row_of, score_rows
from ks_lottery.report.chart import Chart, Series

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ks_lottery.store.cells import FinishedCell

LEVELS = ("original", "embed", "full")
"""Systems that are drawn as levels."""

TITLES = {"accuracy": "next-token accuracy", "bleu": "BLEU"}
"""Metric to the title of its axis; BLEU is drawn where every cell translated."""


def existence_charts(finished: Sequence[FinishedCell]) -> list[Chart]:
    """Return figure 1 for each model and pair: scores by number of rows, of tickets and of random rows."""
    return _charts(
        finished, "figure1", ("partial", "transfer", "random", "random-reachable"), "rows that are trained or moved"
    )


def token_charts(finished: Sequence[FinishedCell]) -> list[Chart]:
    """Return figure 8 for each model and pair: scores by number of rows, of partial tuning, transfer and frequency tuning."""
    return _charts(finished, "figure8", ("partial", "transfer", "frequency"), "rows that are trained or moved")


def frozen_charts(finished: Sequence[FinishedCell]) -> list[Chart]:
    """Return figure 5 for each model and pair: scores by number of frozen rows."""
    return _charts(finished, "figure5", ("frozen", "frozen-random"), "rows that are frozen")


def _charts(finished: Sequence[FinishedCell], name: str, systems: Sequence[str], x_title: str) -> list[Chart]:
    charts: list[Chart] = []
    places = places_of(finished)
    metrics = ["accuracy", *(["bleu"] if all(cell.figures.get("scores") for cell in finished) else [])]
    for number, ((model, pair), cells) in enumerate(places.items(), start=1):
        rows = score_rows(cells)
        levels = [(NAMES[system], row) for system in LEVELS if (row := row_of(rows, system)) is not None]
        numbered = name if len(places) == 1 else f"{name}-{number}"
        charts += [
            Chart(
                name=numbered if metric == "accuracy" else f"{numbered}-{metric}",
                title=f"{model.rstrip('/').rsplit('/', 1)[-1]}, {pair}", x_title=x_title, y_title=TITLES[metric], is_log=True,
                series=[_series(system, [row for row in rows if row.system == system], metric) for system in systems],
                levels=[(called, mean_if_any(_scores(row, metric)) or 0.0) for called, row in levels],
            )
            for metric in metrics
        ]  # fmt: skip
    return charts


def _scores(row: ScoreRow, metric: str) -> list[float]:
    return row.accuracies if metric == "accuracy" else row.scores(metric)


def _series(system: str, rows: Sequence[ScoreRow], metric: str) -> Series:
    """Return the points of a system by number of rows: the mean over seeds of both, and the range of the score."""
    scored = [(_number(row), _scores(row, metric)) for row in rows]
    points = sorted((number, mean_if_any(scores) or 0.0, min(scores), max(scores)) for number, scores in scored)
    x, y, low, high = ([point[place] for point in points] for place in range(4))
    has_range = any(len(scores) > 1 for _, scores in scored)
    return Series(name=NAMES[system], x=x, y=y, low=low if has_range else (), high=high if has_range else ())


def _number(row: ScoreRow) -> float:
    """Return the mean number of rows; of a system that freezes a set, the size of the set, which its name says."""
    if row.system.startswith("frozen") and row.set_name is not None:
        return float(row.set_name.rsplit(" ", 1)[-1])
    return mean_if_any(row.tokens or [0.0]) or 0.0
