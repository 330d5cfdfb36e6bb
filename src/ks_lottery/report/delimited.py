"""The table of a section as CSV: raw values in full, for a program that reads them."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ks_lottery.report.section import Section


def to_csv(section: Section) -> str:
    """Return the table of a section as CSV (RFC 4180); an empty string where it has no table.

    A value is written in full, not as it is shown; None is empty, and an interval has two columns, its title with ``low`` and
    ``high``.

    Examples
    --------
    >>> from ks_lottery.report.section import Column, Section
    >>> columns = [Column(title="name"), Column(title="change", form="interval")]
    >>> to_csv(Section(columns=columns, rows=[["a, b", (0.1, 0.25)], ["c", None]])).splitlines()
    ['name,change low,change high', '"a, b",0.1,0.25', 'c,,']
    """
    if not section.rows:
        return ""
    pairs = [any(isinstance(row[place], tuple | list) for row in section.rows) for place in range(len(section.columns))]
    text = io.StringIO()
    writer = csv.writer(text)  # lines end in CR LF: with other ends it would not quote a CR in a value
    titles = [
        title
        for column, two in zip(section.columns, pairs, strict=True)
        for title in ([f"{column.title} low", f"{column.title} high"] if two else [column.title])
    ]
    writer.writerow(titles)
    for row in section.rows:
        writer.writerow([part for value, two in zip(row, pairs, strict=True) for part in _parts(value, two=two)])
    return text.getvalue()


def _parts(value: Any, *, two: bool) -> list[Any]:
    if not two:
        return ["" if value is None else value]
    if isinstance(value, tuple | list):
        low, high = value
        return [low, high]
    return ["" if value is None else value, ""]
