"""What a scan shows as charts: the distribution of D, and how many units pass at each significance level."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ks_lottery.report.page_parts import Figure
from ks_lottery.report.section import Column, Section
from ks_lottery.report.vega import curves, histogram
from ks_lottery.stats.null import critical_count

if TYPE_CHECKING:
    from ks_lottery.tickets.scan import Scan

BARS = 60
"""Most bars of a histogram."""

ALPHAS = (0.001, 0.01, 0.05, *(round(0.1 * step, 1) for step in range(1, 10)), 0.99)
"""Significance levels of the curve of tickets."""


def statistic_figure(scan: Scan, alpha: float) -> Figure:
    """Return the histogram of D of the units that moved, with the D that alpha and a half need.

    A scan of units of several widths has D on one axis, and no line, since each width needs another D.
    """
    statistics = scan.statistics[scan.moved > 0]
    widths = {part.width for part in scan.parts}
    width = max(widths)
    top = max(1, int(np.ceil(float(statistics.max(initial=0.0)) * width)))
    step = -(-(top + 1) // BARS)
    edges = np.arange(0, top + 1 + step, step)
    counts, _ = np.histogram(np.rint(statistics * width), bins=edges)
    bins = [
        (float(low / width), float(high / width), int(count))
        for low, high, count in zip(edges, edges[1:], counts, strict=False)
    ]
    levels = (
        []
        if len(widths) > 1
        else [
            (f"p < {level:g}", critical_count(width, level) / width)
            for level in dict.fromkeys((0.5, alpha))
            if critical_count(width, level) <= width
        ]
    )
    columns = [
        Column(title="D from", form=".4f"),
        Column(title="to", form=".4f"),
        Column(title="units", form="integer"),
    ]
    return Figure(
        name="distribution-of-D",
        title="D of the units that moved (square-root scale)",
        spec=histogram(bins, "D, the largest gap", "units", levels),
        numbers=Section(columns=columns, rows=[list(one) for one in bins]),
    )


def tickets_figure(scan: Scan) -> Figure:
    """Return how many units pass at each of `ALPHAS`."""
    passing = [(alpha, len(scan.passing(alpha))) for alpha in ALPHAS]
    points = [{"x": alpha, "y": count, "series": "tickets"} for alpha, count in passing]
    columns = [Column(title="alpha", form="g"), Column(title="tickets", form="integer")]
    return Figure(
        name="tickets-by-alpha",
        title="Tickets at each significance level alpha",
        spec=curves(points, "alpha", "units with p < alpha", form=",.0f"),
        numbers=Section(columns=columns, rows=[list(one) for one in passing]),
    )


def moves_figure(scan: Scan) -> Figure:
    """Return the histogram of the moves: mean absolute change over the standard deviation of the unit before."""
    spread = scan.spread[np.isfinite(scan.spread) & (scan.spread > 0)]
    bins: list[tuple[float, float, int]] = []
    if len(spread):
        low, high = float(spread.min()), float(spread.max())
        edges = np.geomspace(low, max(high, low * 1.01) * 1.0001, 41)
        counts, _ = np.histogram(spread, bins=edges)
        bins = [(float(a), float(b), int(n)) for a, b, n in zip(edges, edges[1:], counts, strict=False)]
    columns = [
        Column(title="move from", form=".3g"),
        Column(title="to", form=".3g"),
        Column(title="units", form="integer"),
    ]
    return Figure(
        name="distribution-of-moves",
        title="Moves of the units that moved, in units of their own spread (square-root scale)",
        spec=histogram(bins, "mean absolute change / standard deviation before", "units", log=True),
        numbers=Section(columns=columns, rows=[list(one) for one in bins]),
    )
