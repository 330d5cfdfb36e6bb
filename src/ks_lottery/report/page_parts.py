"""What a page consists of: articles of parts, and in each part tables, figures, numbers at a glance, coloured text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ks_lottery.report.section import Section


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One number at a glance.

    Parameters
    ----------
    label, value, note
        What it is, the number as it is shown, and what qualifies it.
    """

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """Numbers at a glance, side by side."""

    kind: ClassVar[str] = "tiles"
    tiles: Sequence[Tile]


@dataclass(frozen=True, kw_only=True)
class Table:
    """A section of a noun, as its table and its sentences.

    Parameters
    ----------
    section
        What is shown.
    name
        Name of its CSV file, without ending.
    folded
        Whether the reader has to open it.
    """

    kind: ClassVar[str] = "table"
    section: Section
    name: str = "table"
    folded: bool = False


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A chart, and the numbers behind it.

    Parameters
    ----------
    name
        Name of its files, without ending.
    title
        What it shows; screen readers read it.
    spec
        Vega-Lite specification, without colours of the page; see `ks_lottery.report.vega`.
    numbers
        The numbers that are drawn, as a table.
    link
        Field of the data by whose value a click filters the table of the same part; empty for none.
    """

    kind: ClassVar[str] = "figure"
    name: str
    title: str
    spec: Mapping[str, Any]
    numbers: Section
    link: str = ""


@dataclass(frozen=True, kw_only=True)
class Image:
    """A figure that was drawn before: its file as a data address, which a page shows without running what is in it."""

    kind: ClassVar[str] = "image"
    name: str
    address: str


@dataclass(frozen=True, kw_only=True)
class Passages:
    """Texts in pieces, each piece with the name of what it belongs to; the names are coloured, and explained above.

    Parameters
    ----------
    names
        What the pieces can belong to, in the order of the colours.
    passages
        Title of each text, and its pieces: text and name; an empty name for neither.
    """

    kind: ClassVar[str] = "passages"
    names: Sequence[str]
    passages: Sequence[tuple[str, Sequence[tuple[str, str]]]]


@dataclass(frozen=True, kw_only=True)
class SideBySide:
    """Texts side by side: a line of several, each in pieces that are marked where it differs from the first one.

    Parameters
    ----------
    titles
        Heads of the columns.
    lines
        For each line and column the pieces: text, and whether it differs.
    """

    kind: ClassVar[str] = "texts"
    titles: Sequence[str]
    lines: Sequence[Sequence[Sequence[tuple[str, bool]]]]


@dataclass(frozen=True, kw_only=True)
class RowTable:
    """Every row of an embedding as one table that sorts, filters and pages in the page.

    Parameters
    ----------
    name
        Name of its CSV file, without ending.
    payload
        What `rows.js` reads; see `ks_lottery.recipes.page_rows`.
    """

    kind: ClassVar[str] = "rows"
    name: str
    payload: Mapping[str, Any]


Item = Tiles | Table | Figure | Image | Passages | SideBySide | RowTable


@dataclass(frozen=True, kw_only=True)
class PagePart:
    """A part of an article.

    Parameters
    ----------
    title, sentence
        Heading, and one sentence that says what to see.
    items
        What is shown, in order.
    """

    title: str
    sentence: str = ""
    items: Sequence[Item] = ()


@dataclass(frozen=True, kw_only=True)
class Article:
    """What is shown of one noun or one folder.

    Parameters
    ----------
    title, about
        Heading, and a line below it.
    parts
        Its parts.
    """

    title: str
    about: str = ""
    parts: Sequence[PagePart] = ()


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page of one or several articles, side by side where there is room.

    Parameters
    ----------
    title
        Title of the document.
    articles
        At least one.
    refreshes
        Whether the page asks the server that it comes from for a newer one.
    versions
        Version of what the page was made by, printed at its end.
    """

    title: str
    articles: Sequence[Article]
    refreshes: bool = False
    versions: Mapping[str, str] = field(default_factory=dict)
