"""Sections as Markdown."""

from __future__ import annotations

from ks_lottery.report.markdown import to_markdown
from ks_lottery.report.section import Column, Section


def test_a_section_is_a_heading_a_table_and_paragraphs():
    columns = [Column(title="token"), Column(title="p", form=".2f")]
    section = Section(title="Rows | all", columns=columns, rows=[["a|b", 0.5], ["`*x*`", None]], sentences=["1 < 2."])
    assert to_markdown([section, Section()]) == (
        "## Rows \\| all\n\n| token | p |\n| --- | ---: |\n| a\\|b | 0.50 |\n| \\`\\*x\\*\\` | - |\n\n1 \\< 2.\n"
    )
    assert to_markdown([Section()]) == ""
