"""Sections as LaTeX: tables of the package booktabs, and sentences as paragraphs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ks_lottery.report.forms import printable, show

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ks_lottery.report.section import Section

_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "[": r"{[}", "]": r"{]}", "|": r"\textbar{}",
}  # fmt: skip
"""Characters that LaTeX would act on. Brackets too: after the end of a table row they would be its argument."""

_PATTERN = re.compile("|".join(map(re.escape, _SPECIAL)))


def to_latex(sections: Sequence[Section]) -> str:
    r"""Return sections as LaTeX to put into a document that has ``\usepackage{booktabs}``."""
    blocks: list[str] = []
    for section in sections:
        if section.title:
            blocks.append(rf"\paragraph{{{escaped(section.title)}}}")
        if section.rows:
            blocks.append(_table(section))
        blocks += [escaped(sentence) for sentence in section.sentences]
    return "\n\n".join(blocks) + "\n" if blocks else ""


def escaped(text: str) -> str:
    r"""Return text that LaTeX prints as it is.

    >>> print(escaped("100% of a_b"))
    100\% of a\_b
    """
    return _PATTERN.sub(lambda match: _SPECIAL[match[0]], printable(text)).replace("\n", " ")


def _table(section: Section) -> str:
    sides = "".join("l" if column.side == "left" else "r" for column in section.columns)
    head = " & ".join(escaped(column.title) for column in section.columns)
    rows = [
        " & ".join(escaped(show(value, column.form)) for value, column in zip(row, section.columns, strict=True))
        for row in section.rows
    ]
    lines = [rf"\begin{{tabular}}{{{sides}}}", r"\toprule", rf"{head} \\", r"\midrule"]
    return "\n".join([*lines, *(rf"{row} \\" for row in rows), r"\bottomrule", r"\end{tabular}"])
