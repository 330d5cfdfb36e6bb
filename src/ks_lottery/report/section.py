"""What a noun shows of itself: a title, a table of raw values, and sentences. Renderers turn it into text."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Align = Literal["left", "right"]
"""Side of a column that its values are aligned to."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a table, and how its values are shown.

    Parameters
    ----------
    title
        Head of the column.
    form
        How a raw value is shown: a key of `ks_lottery.report.forms.FORMS` (``text``, ``integer``, ``pvalue``, ``bytes``, ...)
        or a Python format specification such as ``.4f``.
    align
        ``left`` or ``right``; by default text to the left and numbers to the right.
    widest
        Most characters that the column takes in a terminal; longer values are cut.
    cut
        Where a value that is too long for a terminal is cut: at its ``begin``, as for names whose last part tells them apart,
        or at its ``end``. None for text that takes several lines instead.
    ending
        Ending that all values lose where one of them is too long for a terminal, before anything is cut.
    drop
        Where a table is too wide for a terminal, columns of least use are left out first: those of the largest `drop`. 0 (the
        default) for a column that is never left out.
    """

    title: str
    form: str = "text"
    align: Align | None = None
    widest: int | None = None
    cut: Literal["begin", "end"] | None = None
    ending: str = ""
    drop: int = 0

    @property
    def side(self) -> Align:
        """Side that the values are aligned to."""
        return self.align or ("left" if self.form == "text" else "right")


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a report: a table, sentences, or both.

    Parameters
    ----------
    title
        Printed above; may be empty.
    columns, rows
        The table. A row has one raw value a column: a number, a string, None where there is nothing, or a pair of numbers for
        an interval. A string in a column of numbers is shown as it is.
    sentences
        Printed below the table, one line each.
    keys
        Number of first columns that name a row (1). A table that is wider than the terminal, without the columns that may be
        left out, is divided into several, and each begins with these columns.
    """

    title: str = ""
    columns: Sequence[Column] = ()
    rows: Sequence[Sequence[Any]] = ()
    sentences: Sequence[str] = ()
    keys: int = 1

    def __post_init__(self) -> None:
        """Check that every row has one value a column."""
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"section {self.title!r}: each row needs {len(self.columns)} values, one a column")

    def as_dict(self) -> dict[str, Any]:
        """Return the section as values of JSON; intervals become lists of two numbers."""
        return {
            "title": self.title,
            "columns": [asdict(column) for column in self.columns],
            "rows": [[list(value) if isinstance(value, tuple) else value for value in row] for row in self.rows],
            "sentences": list(self.sentences),
            "keys": self.keys,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Section:
        """Return the section that `as_dict` returned the content of."""
        rows = [[tuple(value) if isinstance(value, list) else value for value in row] for row in content["rows"]]
        columns = [Column(**column) for column in content["columns"]]
        return cls(
            title=content["title"], columns=columns, rows=rows, sentences=content["sentences"], keys=content["keys"]
        )


def check_top(most: int) -> int:
    """Return the number of rows that a table shows.

    Raises
    ------
    UserError
        When it is below 0.
    """
    if most < 0:
        raise UserError(f"top is {most}, but must be 0 or more")
    return most
