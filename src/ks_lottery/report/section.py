"""What a noun shows of itself: a title, a table of raw values, and sentences. Renderers turn it into text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    """

    title: str
    form: str = "text"
    align: Align | None = None
    widest: int | None = None

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
        Number of first columns that name a row. A table that is wider than the terminal is divided into several, and each
        begins with these columns; with 0 it is never divided.
    """

    title: str = ""
    columns: Sequence[Column] = ()
    rows: Sequence[Sequence[Any]] = ()
    sentences: Sequence[str] = ()
    keys: int = 0

    def __post_init__(self) -> None:
        """Check that every row has one value a column."""
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"section {self.title!r}: each row needs {len(self.columns)} values, one a column")


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
