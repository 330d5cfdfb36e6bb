"""Charts as Vega-Lite specifications, from plain values: the page draws them, and `plot()` of a noun gives them to altair."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from altair import Chart as AltairChart
    from altair import LayerChart

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
"""Name of the language; nothing is fetched from there."""

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b5679a", "#c08a00", "#4a9fd0", "#7a7a7a", "#8c5a2b")
"""Colours of series (after Okabe and Ito), told apart in every common form of colour blindness; the shape of a point and the
dashes of a line say the same."""

ROW_HEIGHT = 26
"""Pixels of a line of a chart that has one line a name."""

Spec = dict[str, Any]


def to_altair(spec: Mapping[str, Any]) -> AltairChart | LayerChart:
    """Return a specification as a chart of altair, which checks it, shows itself in a notebook and saves itself."""
    import altair as alt

    own = {
        **spec,
        "config": {"range": {"category": list(COLOURS)}, "mark": {"color": COLOURS[0]}, "view": {"stroke": None}},
    }
    if own.get("width") == "container":
        own["width"] = 520
    own.pop("autosize", None)
    chart: Any = alt.Chart.from_dict(own)
    return chart


def specification(values: Sequence[Mapping[str, Any]], height: int, **more: Any) -> Spec:
    """Return the frame of a specification: data, size, and what `more` has."""
    return {
        "$schema": SCHEMA,
        "data": {"values": [dict(value) for value in values]},
        "width": "container",
        "height": height,
        "autosize": {"type": "fit-x", "contains": "padding"},
        **more,
    }


def axis_of(field: str, title: str, kind: str = "quantitative", **more: Any) -> Spec:
    """Return the encoding of a field on an axis or in a tooltip."""
    return {"field": field, "type": kind, "title": title, **more}


def intervals(
    lines: Sequence[tuple[str, float, float | None, float | None]],
    x_title: str,
    *,
    reference: float | None = None,
    form: str = ".3f",
    ranked: bool = True,
) -> Spec:
    """Return a plot of values with their intervals, a line each, the largest at the top.

    Parameters
    ----------
    lines
        Name, value, and the two ends of its interval, or None.
    reference
        A value that a vertical line marks, such as 0.
    form
        Format of the numbers in d3's language.
    ranked
        Sort by value; otherwise in the order that is given.
    """
    values = [{"name": name, "value": value, "low": low, "high": high} for name, value, low, high in lines]
    order = [name for name, *_ in (sorted(lines, key=lambda line: -line[1]) if ranked else lines)]
    y = axis_of("name", "", "nominal", sort=order, axis={"labelLimit": 190, "title": None})
    tip = [
        axis_of("name", " ", "nominal"),
        axis_of("value", x_title, format=form),
        axis_of("low", "from", format=form),
        axis_of("high", "to", format=form),
    ]
    scale = {"zero": False, "nice": True}
    layers: list[Spec] = [
        {
            "mark": {"type": "rule", "strokeWidth": 2, "opacity": 0.65},
            "encoding": {"y": y, "x": axis_of("low", x_title, scale=scale), "x2": {"field": "high"}},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
            "encoding": {
                "y": y,
                "x": axis_of("value", x_title, scale=scale, axis={"format": form, "tickCount": 6}),
                "tooltip": tip,
            },
        },
    ]
    if not any(value["low"] is not None for value in values):
        del layers[0]
    if reference is not None:
        rule = {"mark": {"type": "rule", "strokeDash": [4, 4]}, "encoding": {"x": {"datum": reference}}}
        layers.insert(0, rule)
    return specification(values, ROW_HEIGHT * max(2, len(lines)), layer=layers)


def curves(
    points: Sequence[Mapping[str, Any]],
    x_title: str,
    y_title: str,
    *,
    log: bool = False,
    marks: bool = True,
    form: str = ".3~f",
) -> Spec:
    """Return series of points joined by lines, told apart by colour, dashes and the shape of their points.

    Parameters
    ----------
    points
        ``x``, ``y`` and ``series``; with ``low`` and ``high`` where a point has an interval.
    log
        Whether the horizontal axis is logarithmic (symmetric about 0, so that 0 has a place).
    marks
        Whether each point is marked; a long series is a line alone.
    """
    several = len({point["series"] for point in points}) > 1
    scale: Spec = {"type": "symlog"} if log else {}
    ticks: Spec = {"axis": {"values": _powers(points), "format": ",d"}} if log else {"axis": {"tickCount": 6}}
    x = axis_of("x", x_title, scale={**scale, "nice": not log, "zero": False}, **ticks)
    y = axis_of("y", y_title, scale={"zero": False}, axis={"format": form, "tickCount": 6})
    order = list(dict.fromkeys(point["series"] for point in points))
    series = {"field": "series", "type": "nominal", "title": None, "sort": order}
    colour: Spec = (
        {"color": {**series, "legend": {"orient": "top", "columns": 3, "labelLimit": 220, "symbolType": "stroke"}}}
        if several
        else {}
    )
    dash: Spec = {"strokeDash": {**series, "legend": None}} if several else {}
    layers: list[Spec] = []
    if any(point.get("low") is not None for point in points):
        layers.append(
            {
                "mark": {"type": "rule", "strokeWidth": 1.5, "opacity": 0.6},
                "encoding": {
                    "x": x,
                    "y": axis_of("low", y_title, scale={"zero": False}),
                    "y2": {"field": "high"},
                    **colour,
                },
            }
        )
    layers.append({"mark": {"type": "line", "strokeWidth": 2}, "encoding": {"x": x, "y": y, **colour, **dash}})
    if marks:
        shape: Spec = {"shape": {**series, "legend": None}} if several else {}
        tip = [axis_of("series", " ", "nominal"), axis_of("x", x_title), axis_of("y", y_title, format=form)]
        layers.append(
            {
                "mark": {"type": "point", "filled": True, "size": 55, "opacity": 1},
                "encoding": {"x": x, "y": y, **colour, **shape, "tooltip": tip},
            }
        )
    return specification(points, 260, layer=layers)


def bars(lines: Sequence[tuple[str, float, float | None, float | None]], x_title: str, *, form: str = ".0%") -> Spec:
    """Return horizontal bars with intervals, in the order that is given; see `intervals`."""
    values = [{"name": name, "value": value, "low": low, "high": high} for name, value, low, high in lines]
    y = axis_of("name", "", "nominal", sort=None, axis={"labelLimit": 190, "title": None})
    tip = [
        axis_of("name", " ", "nominal"),
        axis_of("value", x_title, format=form),
        axis_of("low", "from", format=form),
        axis_of("high", "to", format=form),
    ]
    layers = [
        {
            "mark": {"type": "bar", "height": {"band": 0.62}, "opacity": 0.75},
            "encoding": {"y": y, "x": axis_of("value", x_title, axis={"format": form, "tickCount": 6}), "tooltip": tip},
        },
        {
            "mark": {"type": "rule", "strokeWidth": 2},
            "encoding": {"y": y, "x": axis_of("low", x_title), "x2": {"field": "high"}},
        },
    ]
    if not any(value["low"] is not None for value in values):
        del layers[1]
    return specification(values, ROW_HEIGHT * max(2, len(lines)), layer=layers)


def histogram(
    bins: Sequence[tuple[float, float, int]],
    x_title: str,
    y_title: str,
    levels: Sequence[tuple[str, float]] = (),
    *,
    log: bool = False,
) -> Spec:
    """Return counts by bins, with named vertical lines; heights are on a square-root axis, so that small counts are seen.

    Parameters
    ----------
    bins
        Begin, end and count of each.
    levels
        Name and place of each line.
    log
        Whether the horizontal axis is logarithmic.
    """
    values = [{"low": low, "high": high, "count": count} for low, high, count in bins]
    tip = [
        axis_of("low", "from", format=".3~g"),
        axis_of("high", "to", format=".3~g"),
        axis_of("count", y_title, format=","),
    ]
    scale: Spec = {"type": "log"} if log else {"zero": False, "nice": False}
    axis: Spec = {"axis": {"format": "~g", "tickCount": 6}} if log else {}
    x = axis_of("low", x_title, scale=scale, **axis)
    y = axis_of("count", y_title, scale={"type": "sqrt"}, axis={"format": ",d", "tickCount": 5})
    layers: list[Spec] = [
        {
            "mark": {"type": "bar", "opacity": 0.75, "x2Offset": 1},
            "encoding": {"x": x, "x2": {"field": "high"}, "y": y, "y2": {"datum": 0}, "tooltip": tip},
        }
    ]
    if levels:
        named: list[dict[str, Any]] = [
            {"name": name, "at": at, "place": number % 3} for number, (name, at) in enumerate(levels)
        ]
        at = {"field": "at", "type": "quantitative"}
        layers += [
            {
                "data": {"values": named},
                "mark": {"type": "rule", "strokeDash": [5, 3], "strokeWidth": 1.5},
                "encoding": {"x": at},
            },
            *(
                {
                    "data": {"values": [each]},
                    "mark": {"type": "text", "align": "left", "baseline": "top", "dx": 4, "dy": 2 + 14 * each["place"]},
                    "encoding": {"x": at, "y": {"value": 0}, "text": {"field": "name"}},
                }
                for each in named
            ),
        ]
    return specification(values, 240, layer=layers)


def _powers(points: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return 0 and the powers of ten up to the largest point, as ticks of a symmetric logarithm."""
    largest = max((float(point["x"]) for point in points), default=1.0)
    powers = [0.0]
    while (power := 10.0 ** (len(powers) - 1)) <= largest:
        powers.append(power)
    return powers
