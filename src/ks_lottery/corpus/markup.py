"""The text of a segment of TMX or XLIFF, without the native code of its inline tags."""

from __future__ import annotations

from typing import Any

NATIVE = frozenset({"bpt", "ept", "ph", "it", "ut", "x", "bx", "ex", "sc", "ec", "sm", "em", "cp"})
"""Inline elements of TMX 1.4, XLIFF 1.2 and 2 that hold a tag's own code, or nothing; all others wrap text."""


def sentence_of(element: Any) -> str:
    """Return the text of a segment without its inline tags, white space run together.

    Parameters
    ----------
    element
        The lxml element of a ``seg``, ``source`` or ``target``.

    Examples
    --------
    >>> from lxml import etree
    >>> sentence_of(etree.fromstring("<seg>Click <bpt i='1'>&lt;b&gt;</bpt>here<ept i='1'/>, <hi>now</hi></seg>"))
    'Click here, now'
    """
    return " ".join("".join(_pieces(element)).split())


def local_name(element: Any) -> str:
    """Return the name of an element without its namespace; empty for a comment or an instruction."""
    return str(element.tag).rpartition("}")[2] if isinstance(element.tag, str) else ""


def _pieces(element: Any) -> list[str]:
    pieces = [element.text or ""]
    for child in element:
        if local_name(child) and local_name(child) not in NATIVE:
            pieces += _pieces(child)
        pieces.append(child.tail or "")
    return pieces
