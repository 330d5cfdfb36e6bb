"""Draws charts as SVG, PDF and PNG with matplotlib, which is an optional part of the installation; same chart, same bytes."""

from __future__ import annotations

import math
from importlib import util
from typing import TYPE_CHECKING, Any

from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ks_lottery.report.chart import Chart

FORMATS = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}
"""Ending of a file to the metadata that would differ between two files of one chart."""

STYLE: dict[Any, Any] = {
    "svg.hashsalt": "ks-lottery",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "font.size": 9.0,
    "path.simplify": False,
}
"""Settings of matplotlib, beside its own defaults."""

MARKERS = "osD^vPX*"

LEAST_GAP = 0.07
"""Share of a logarithmic axis that two of its numbers are apart at least, so that they do not overlap."""

MISSING = "figures need matplotlib: pip install 'ks-lottery[figures]'"


def can_draw() -> bool:
    """Say whether matplotlib is installed."""
    return util.find_spec("matplotlib") is not None


def draw(chart: Chart, folder: Path) -> list[Path]:
    """Write a chart into a folder in every format of `FORMATS`, and return the files.

    Raises
    ------
    UserError
        When matplotlib is not installed.
    """
    if not can_draw():
        raise UserError(MISSING)
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    files: list[Path] = []
    with mpl.rc_context():
        mpl.rcdefaults()
        for setting, value in STYLE.items():
            mpl.rcParams[setting] = value
        figure = Figure(figsize=(6.0, 3.8), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        _plot(chart, figure.add_subplot())
        for ending, metadata in FORMATS.items():
            files.append(folder / f"{chart.name}.{ending}")
            figure.savefig(files[-1], format=ending, metadata=metadata)
    return files


def _plot(chart: Chart, axes: Any) -> None:
    for place, series in enumerate(chart.series):
        style = {
            "marker": MARKERS[place % len(MARKERS)],
            "markersize": 4.0,
            "label": series.name,
            "color": f"C{place % 10}",
        }
        style |= {"linewidth": 1.2, "linestyle": "-" if series.is_line else "none"}
        if series.low:
            below = [y - low for y, low in zip(series.y, series.low, strict=True)]
            above = [high - y for y, high in zip(series.y, series.high, strict=True)]
            axes.errorbar(series.x, series.y, yerr=[below, above], capsize=2.0, **style)
        else:
            axes.plot(series.x, series.y, **style)
    for place, (name, level) in enumerate(chart.levels):
        axes.axhline(level, label=name, color="0.35", linewidth=1.0, linestyle=("--", ":", "-.")[place % 3])
    if chart.is_log:
        numbers = sorted({number for series in chart.series for number in series.x})
        if numbers[0] > 0:
            axes.set_xscale("log")
            axes.set_xlim(numbers[0] / 1.25, numbers[-1] * 1.25)
        else:
            axes.set_xscale("symlog", linthresh=1.0)
        axes.set_xticks(shown := apart(numbers), [f"{number:,.0f}" for number in shown])
        axes.set_xticks([number for number in numbers if number not in shown], minor=True)
        axes.tick_params(which="minor", labelbottom=False)
    axes.set_title(chart.title)
    axes.set_xlabel(chart.x_title)
    axes.set_ylabel(chart.y_title)
    axes.grid(visible=True, linewidth=0.4, alpha=0.5)
    axes.legend(fontsize=7.0)


def apart(numbers: Sequence[float]) -> list[float]:
    """Return the numbers of a logarithmic axis that are named: the first one, and each that is far enough from the one before.

    >>> apart([18, 21, 50, 85, 120, 400, 415, 1184, 2527])
    [18, 50, 85, 400, 1184, 2527]
    """
    places = [math.log10(number) if number >= 1 else number - 1 for number in numbers]
    width = places[-1] - places[0]
    named: list[float] = []
    last = -math.inf
    for number, place in zip(numbers, places, strict=True):
        if place - last >= LEAST_GAP * width:
            named.append(number)
            last = place
    return named
