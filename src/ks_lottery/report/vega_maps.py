"""Specifications of two larger charts: the layers of a model as a map, and the distributions of a row before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ks_lottery.report.vega import axis_of, specification

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ks_lottery.report.vega import Spec


def heat(cells: Sequence[Mapping[str, Any]], title: str) -> Spec:
    """Return layers by modules, the colour a share, on a square-root scale so that small shares are seen.

    Parameters
    ----------
    cells
        ``layer``, ``module``, ``share`` (0 to 1), ``passing``, ``units`` and ``tensor``.
    """
    layers = sorted({cell["layer"] for cell in cells}, key=_by_number)
    modules = list(dict.fromkeys(cell["module"] for cell in cells))
    tip = [
        axis_of("tensor", "tensor", "nominal"),
        axis_of("share", title, format=".1%"),
        axis_of("passing", "units past it", format=","),
        axis_of("units", "units", format=","),
    ]
    return specification(
        cells,
        34 + 17 * max(2, len(layers)),
        mark={"type": "rect", "cursor": "pointer", "stroke": "#8888", "strokeWidth": 0.5},
        encoding={
            "x": axis_of(
                "module",
                "",
                "nominal",
                sort=modules,
                axis={"labelAngle": -40, "orient": "top", "title": None, "labelLimit": 130},
            ),
            "y": axis_of("layer", "layer", "nominal", sort=layers),
            "color": axis_of(
                "share",
                title,
                scale={"type": "sqrt", "scheme": "viridis", "domain": [0, 1]},
                legend={"orient": "bottom", "format": ".0%", "gradientLength": 180},
            ),
            "tooltip": tip,
        },
    )


def _by_number(name: str) -> tuple[int, int, str]:
    return (0, int(name), "") if name.isdigit() else (1, 0, name)


def distributions(before: Sequence[float], after: Sequence[float]) -> Spec:
    """Return the cumulative distributions of a row from quantiles at (i + 1/2) / n; the page marks the largest gap."""
    values = [
        {"series": name, "x": x, "y": (place + 0.5) / len(quantiles)}
        for name, quantiles in (("before", before), ("after", after))
        for place, x in enumerate(quantiles)
    ]
    order = ["before", "after"]
    series = {"field": "series", "type": "nominal", "title": None, "sort": order}
    colour = {
        "color": {**series, "legend": {"orient": "top", "symbolType": "stroke"}},
        "strokeDash": {**series, "legend": None},
    }
    x, y = (
        axis_of("x", "value of a coordinate", scale={"zero": False}),
        axis_of("y", "share of coordinates", axis={"format": ".0%"}),
    )
    gap = {
        "data": {"name": "gap", "values": []},
        "mark": {"type": "rule", "strokeWidth": 3},
        "encoding": {
            "x": axis_of("x", "value of a coordinate"),
            "y": axis_of("low", "share of coordinates"),
            "y2": {"field": "high"},
        },
    }
    label = {
        "data": {"name": "label", "values": []},
        "mark": {"type": "text", "align": "left", "dx": 7, "fontWeight": "bold"},
        "encoding": {
            "x": axis_of("x", "value of a coordinate"),
            "y": axis_of("middle", "share of coordinates"),
            "text": {"field": "text"},
        },
    }
    curve = {
        "mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 2},
        "encoding": {"x": x, "y": y, **colour},
    }
    return specification(values, 240, layer=[curve, gap, label])
