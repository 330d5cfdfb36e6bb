"""The figures of the paper's tables (``paper.json``), to stand beside those of a recipe."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_lottery.store.files import read_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FILE = Path(__file__).with_name("paper.json")


@dataclass(frozen=True, kw_only=True)
class PaperTable:
    """One table of the paper.

    Parameters
    ----------
    metric
        What its figures are.
    columns
        Name of each column, such as ``en-ca``; None where a row is a list, as in table 8.
    rows
        Rows: what names each of them (``model``, ``system``, ``alpha``, ...), and its ``values``, one a column or a list.
    """

    metric: str
    columns: Sequence[str] | None
    rows: Sequence[Mapping[str, Any]]

    def values(self, **row: Any) -> Sequence[Any] | None:
        """Return the values of the row that is named so; None where the table has none."""
        found = [
            entry["values"]
            for entry in self.rows
            if {name: value for name, value in entry.items() if name != "values"} == row
        ]
        return found[0] if found else None

    def value(self, column: str, **row: Any) -> Any:
        """Return one value; None where the table has no such row or column.

        >>> paper_table("table4").value("en-ca", model="LLaMA-7B", system="partial")
        37.7
        """
        values = self.values(**row)
        if values is None or self.columns is None or column not in self.columns:
            return None
        return values[list(self.columns).index(column)]


@cache
def paper_table(name: str) -> PaperTable:
    """Return a table of the paper, such as ``table1``.

    Raises
    ------
    KeyError
        When the file does not have it.
    """
    table = read_json(FILE)[name]
    return PaperTable(metric=table["metric"], columns=table["columns"], rows=table["rows"])
