"""Sections as HTML: escaped, cut, and well formed whatever the content."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from ks_lottery.report.notebook import to_html
from ks_lottery.report.section import Column, Section

EVIL = "<script>alert('x')</script> & \"quotes\" \x1b[2J"


def parsed(html: str) -> ET.Element:
    return ET.fromstring(html.replace("&hellip;", "..."))


def test_text_is_escaped_everywhere():
    section = Section(title=EVIL, columns=[Column(title=EVIL)], rows=[[EVIL]], sentences=[EVIL])
    html = to_html([section])
    assert "<script" not in html
    assert "\x1b" not in html
    shown = "".join(parsed(html).itertext())
    assert shown.count("<script>alert('x')</script> & \"quotes\" \\x1b[2J") == 4


def test_values_have_the_form_of_their_column():
    section = Section(
        columns=[Column(title="n", form="integer"), Column(title="p", form="pvalue")], rows=[[1234, -1000.0]]
    )
    assert [cell.text for cell in parsed(to_html([section])).iter("td")] == ["1,234", "5.08e-435"]


@pytest.mark.parametrize("value", ["x" * 100_000, '"' * 100_000, "ü" * 100_000])
@pytest.mark.parametrize(("rows", "columns"), [(10_000, 1), (1, 200), (100, 100), (0, 1)])
def test_it_is_short_whatever_the_size(value, rows, columns):
    table = [Column(title=value)] * columns
    section = Section(title=value, columns=table, rows=[[value] * columns] * rows, sentences=[value] * 1000)
    html = to_html([section] * 20)
    assert len(html.encode()) < 100_000
    parsed(html)


def test_what_is_cut_is_counted():
    section = Section(columns=[Column(title="n", form="d")], rows=[[i] for i in range(60)])
    html = to_html([section])
    assert len(list(parsed(html).iter("td"))) == 50
    assert "and 10 more rows" in html
