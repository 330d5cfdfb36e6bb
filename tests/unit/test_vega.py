"""Specifications of charts: altair, which knows the schema of Vega-Lite, accepts each, and vl-convert draws it."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from ks_lottery.report.vega import bars, curves, histogram, intervals, to_altair
from ks_lottery.report.vega_maps import distributions, heat

LINES = [("a", 0.3, 0.2, 0.4), ("b", 0.5, None, None)]
CELL = {"layer": "1", "module": "mlp", "share": 0.5, "passing": 1, "units": 2, "tensor": "t"}
SPECS = {
    "intervals": intervals(LINES, "accuracy", reference=0),
    "intervals without any": intervals([("a", 1.0, None, None)], "x"),
    "curves": curves([{"x": 0, "y": 1.0, "series": "a"}, {"x": 50, "y": 2.0, "series": "b"}], "x", "y", log=True),
    "curves with intervals": curves(
        [{"x": 0, "y": 1.0, "low": 0.5, "high": 2.0, "series": "a"}], "x", "y", marks=False
    ),
    "bars": bars(LINES, "share"),
    "histogram": histogram([(0.0, 0.5, 3), (0.5, 1.0, 900)], "D", "rows", [("p < 0.05", 0.7)]),
    "logarithmic histogram": histogram([(0.001, 0.01, 3)], "move", "rows", log=True),
    "heat": heat([CELL, {**CELL, "layer": "outside"}], "share"),
    "distributions": distributions([0.0, 1.0], [0.5, 2.0]),
}


@pytest.mark.parametrize("name", SPECS)
def test_a_chart_is_valid_and_can_be_drawn(name):
    import vl_convert

    chart = to_altair(SPECS[name])
    svg = ET.fromstring(vl_convert.vegalite_to_svg(chart.to_dict(), vl_version="6.4"))
    assert any("mark-" in (element.get("class") or "") for element in svg.iter())


def test_the_largest_is_at_the_top():
    chart = intervals([("small", 1.0, None, None), ("large", 2.0, None, None)], "x")
    assert chart["layer"][0]["encoding"]["y"]["sort"] == ["large", "small"]
