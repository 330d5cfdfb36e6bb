"""Figures: the same bytes for the same chart, in every format, and what a file shows is in the chart."""

from __future__ import annotations

import os
import re

import pytest

from ks_lottery.errors import UserError
from ks_lottery.report import drawing
from ks_lottery.report.chart import Chart, Series
from ks_lottery.report.drawing import FORMATS, draw

CHART = Chart(
    name="figure", title="a model", x_title="rows", y_title="accuracy",
    series=[
        Series(name="tickets", x=[0, 10, 100], y=[0.1, 0.2, 0.3], low=[0.05, 0.1, 0.2], high=[0.2, 0.3, 0.4]),
        Series(name="chance", x=[1, 10], y=[0.1, 0.15]),
    ],
    levels=[("original model", 0.1)], is_log=True,
)  # fmt: skip


def test_the_same_chart_has_the_same_bytes_whatever_the_time_and_the_users_settings(tmp_path, monkeypatch):
    import matplotlib as mpl

    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = draw(CHART, tmp_path / "a")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    with mpl.rc_context({"font.size": 20, "lines.linewidth": 7}):
        second = draw(CHART, tmp_path / "b")
        assert mpl.rcParams["font.size"] == 20  # the user's settings are as they were
    assert [file.name for file in first] == [f"figure.{ending}" for ending in FORMATS]
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in second]
    assert os.environ["SOURCE_DATE_EPOCH"] == "0"


def test_no_file_has_a_date(tmp_path):
    svg, pdf, png = (file.read_bytes() for file in draw(CHART, tmp_path))
    assert b"<dc:date>" not in svg
    assert b"CreationDate" not in pdf
    assert not re.search(rb"tIME|Software", png)


def test_every_name_of_the_chart_can_be_read_in_the_svg(tmp_path):
    svg = draw(CHART, tmp_path)[0].read_text(encoding="utf-8")
    shown = re.findall(r">([^<>]+)</text>", svg)
    for name in ("a model", "rows", "accuracy", "tickets", "chance", "original model", "0", "1", "10", "100"):
        assert name in shown


def test_points_are_where_the_axes_say(tmp_path):
    """The three points of a linear series are as far apart in the file as their values."""
    chart = Chart(
        name="line", title="", x_title="", y_title="", series=[Series(name="s", x=[0, 1, 3], y=[0.0, 0.5, 2.0])]
    )
    svg = draw(chart, tmp_path)[0].read_text(encoding="utf-8")
    line = re.search(r'<g id="line2d_\d+">\s*<path d="M ([^"]+)" clip-path[^>]*stroke: #1f77b4', svg)
    x, y = zip(*[map(float, point.split()) for point in re.split(r"\s*L ", line[1].strip())], strict=True)
    assert (x[2] - x[0]) / (x[1] - x[0]) == pytest.approx(3, rel=1e-3)
    assert (y[2] - y[0]) / (y[1] - y[0]) == pytest.approx(4, rel=1e-3)


def test_without_matplotlib_one_sentence_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(drawing.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"^figures need matplotlib: pip install 'ks-lottery\[figures\]'$"):
        draw(CHART, tmp_path)
    assert not list(tmp_path.iterdir())


def test_lists_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="different lengths"):
        Series(name="s", x=[1, 2], y=[1])
    with pytest.raises(ValueError, match="different lengths"):
        Series(name="s", x=[1], y=[1], low=[1])
