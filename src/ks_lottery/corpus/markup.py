"""The text of a segment of TMX or XLIFF: inline tags are left out, and what stands for a value is a placeholder."""

from __future__ import annotations

import re
from itertools import count
from typing import TYPE_CHECKING, Any

from ks_lottery.corpus.mended_xml import MARK
from ks_lottery.corpus.program_text import is_placeholder
from ks_lottery.corpus.white_space import single_spaced, trimmed

if TYPE_CHECKING:
    from collections.abc import Iterator

NATIVE = frozenset({"bpt", "ept", "bx", "ex", "it", "ut", "sc", "ec", "sm", "em"})
"""Inline elements of TMX 1.4, XLIFF 1.2 and 2 that hold the code of one tag of a pair, or nothing."""

VALUES = frozenset({"x", "ph"})
"""Inline elements that stand for a value, such as a number or a name, unless they say that they are formatting.

All other elements but these and `NATIVE` wrap text."""

FORMATTING = frozenset({
    "a", "b", "big", "bold", "br", "code", "del", "div", "em", "fmt", "font", "h1", "h2", "h3", "i", "image", "img", "ins",
    "italic", "lb", "li", "link", "ol", "p", "pb", "quote", "s", "small", "span", "strong", "sub", "sup", "tag", "u", "ul",
    "underline", "underlined",
})  # fmt: skip
"""Values of ``ctype`` (XLIFF 1.2, also behind ``x-``) and ``type`` (TMX, XLIFF 2) of what changes the look of a text alone."""

BREAKS = frozenset({"br", "lb", "pb"})

_TAG = re.compile(r"\s*(?:</?([a-zA-Z][\w:-]*)[^<>]*>|\{?\\[a-zA-Z]+-?\d*|\})\s*")
"""The native code of formatting: a tag of HTML, or a control word of RTF."""

_SPACE = "{http://www.w3.org/XML/1998/namespace}space"


def sentence_of(element: Any) -> str:
    """Return the text of a segment: inline tags left out, values as placeholders.

    A value is its own code where that is a placeholder (``%s``), else ``{ID}``. Layout white space is run together unless
    ``xml:space`` says to preserve it; all other white space is text.

    Parameters
    ----------
    element
        The lxml element of a ``seg``, ``source`` or ``target``.

    Examples
    --------
    >>> from lxml import etree
    >>> sentence_of(etree.fromstring("<seg>Click <bpt i='1'>&lt;b&gt;</bpt>here<ept i='1'/>, <hi>now</hi></seg>"))
    'Click here, now'
    >>> sentence_of(etree.fromstring("<source>Page <x id='1'/> of <ph id='2'>%d</ph></source>"))
    'Page {1} of %d'
    """
    text = "".join(_pieces(element, count(1)))
    return trimmed(text) if _is_preserved(element) else single_spaced(text)


def local_name(element: Any) -> str:
    """Return the name of an element without its namespace; empty for a comment or an instruction."""
    return str(element.tag).rpartition("}")[2] if isinstance(element.tag, str) else ""


def _is_preserved(element: Any) -> bool:
    place = element
    while place is not None:
        if place.get(_SPACE):
            return place.get(_SPACE) == "preserve"
        place = place.getparent()
    return False


def _pieces(element: Any, numbers: Iterator[int]) -> list[str]:
    pieces = [element.text or ""]
    for child in element:
        name = local_name(child)
        if name in VALUES:
            pieces.append(_value(child, numbers))
        elif name == "cp":  # a character that XML does not have
            pieces.append(MARK)
        elif name and name not in NATIVE:
            pieces += _pieces(child, numbers)
        pieces.append(child.tail or "")
    return pieces


def _original(element: Any) -> str:
    """Return the code that an element of XLIFF 2 names by ``dataRef``, from the ``originalData`` of its unit."""
    name = element.get("dataRef")
    unit = next((parent for parent in element.iterancestors() if local_name(parent) == "unit"), None) if name else None
    for child in () if unit is None else unit:
        if local_name(child) == "originalData":
            return next(("".join(data.itertext()) for data in child if data.get("id") == name), "")
    return ""


def _value(element: Any, numbers: Iterator[int]) -> str:
    """Return what an element stands for: a placeholder, a space for a line break, or nothing for formatting."""
    number = next(numbers)
    code = "".join(element.itertext()) or element.get("equiv-text") or element.get("equiv") or _original(element)
    said = element.get("ctype") or element.get("subType") or element.get("type") or ""
    kind = said.lower().removeprefix("xlf:").removeprefix("x-").removeprefix("html-")
    tag = _TAG.fullmatch(code)
    if kind in BREAKS or (tag and (tag[1] or "").lower() in BREAKS):
        return " "
    if tag or kind in FORMATTING:
        return ""
    if is_placeholder(code):
        return code
    name = element.get("id") or element.get("x") or str(number)
    return "{" + re.sub(r"[{}\s]", "", name) + "}"
