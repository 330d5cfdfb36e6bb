"""Sections as LaTeX."""

from __future__ import annotations

from ks_lottery.report.latex import to_latex
from ks_lottery.report.section import Column, Section


def test_a_section_is_a_heading_a_table_and_paragraphs():
    columns = [Column(title="token"), Column(title="95%", form=".2f")]
    section = Section(title="A_b", columns=columns, rows=[["[x] & \\y", 0.5], ["$", None]], sentences=["1 < 2 #3"])
    assert to_latex([section]) == (
        "\\paragraph{A\\_b}\n\n"
        "\\begin{tabular}{lr}\n\\toprule\ntoken & 95\\% \\\\\n\\midrule\n"
        "{[}x{]} \\& \\textbackslash{}y & 0.50 \\\\\n\\$ & - \\\\\n\\bottomrule\n\\end{tabular}\n\n"
        "1 \\textless{} 2 \\#3\n"
    )
