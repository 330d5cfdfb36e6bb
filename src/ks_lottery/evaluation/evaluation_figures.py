"""What evaluations and span effects show as charts: scores with their intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ks_lottery.report.page_parts import Figure
from ks_lottery.report.section import Column, Section
from ks_lottery.report.vega import bars, intervals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Line = tuple[str, float, "float | None", "float | None"]
"""Name, value, and the ends of its interval."""


def line_of(name: str | None, value: float, bounds: Sequence[float] | None) -> Line:
    """Return a value with its interval, or without one, as a line of a plot."""
    low, high = bounds or (None, None)
    return str(name), value, low, high


def interval_figure(
    name: str, title: str, lines: Sequence[Line], x_title: str, *, reference: float | None = None, form: str = ".3f"
) -> Figure:
    """Return values with their intervals, the largest at the top; see `ks_lottery.report.vega.intervals`."""
    columns = [
        Column(title="name"), Column(title=x_title, form=form), Column(title="from", form=form), Column(title="to", form=form),
    ]  # fmt: skip
    return Figure(
        name=name,
        title=title,
        spec=intervals(lines, x_title, reference=reference, form=form),
        numbers=Section(columns=columns, rows=[list(line) for line in lines]),
    )


def scores_figure(content: Mapping[str, Any]) -> Figure | None:
    """Return the scores of the translations and the next-token accuracy of an evaluation, all in percent; None for none.

    Parameters
    ----------
    content
        `Evaluation.content`.
    """
    metrics = (content.get("scores") or {}).get("metrics", {})
    lines: list[Line] = [line_of(name, metric["score"], metric.get("interval")) for name, metric in metrics.items()]
    if (summed := content.get("next_token")) is not None:
        low, high = summed["accuracy_interval"] or (None, None)
        lines.append(("next-token accuracy, %", 100 * summed["accuracy"], low and 100 * low, high and 100 * high))
    if (ended := content.get("ended")) is not None:
        lines.append(("outputs that ended, %", 100 * ended["share"], *(100 * end for end in ended["interval"])))
    return interval_figure("scores", "Scores with their intervals", lines, "score", form=".1f") if lines else None


def where_figure(spans: Sequence[Mapping[str, Any]]) -> Figure:
    """Return the share of the gain that remains with the rows active in one span alone, with its interval.

    Where no share was computed, since the gain may be 0, it shows the difference in accuracy.
    """
    shares = all(span["share"] is not None for span in spans)
    key, x_title, form = (
        ("share", "share of the gain", ".0%") if shares else ("difference", "difference in accuracy", "+.3f")
    )
    lines: list[Line] = [
        line_of(span["name"], span[key], span[f"{key}_interval"]) for span in spans if span["name"] != "nowhere"
    ]
    columns = [
        Column(title="rows active in"), Column(title=x_title, form=".4f"), Column(title="from", form=".4f"),
        Column(title="to", form=".4f"),
    ]  # fmt: skip
    return Figure(
        name="where-the-rows-act",
        title="What remains of the gain with the rows active in some spans alone",
        spec=bars(lines, x_title, form=form),
        numbers=Section(columns=columns, rows=[list(line) for line in lines]),
    )
