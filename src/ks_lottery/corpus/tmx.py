"""Pairs from translation memories (TMX), unit by unit, so that a memory of any size fits. No entity is resolved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ks_lottery.corpus.corpus import Pair
from ks_lottery.corpus.languages import best_match
from ks_lottery.corpus.markup import local_name, sentence_of
from ks_lottery.corpus.mended_xml import MARK, MendedXml
from ks_lottery.corpus.packed import opened
from ks_lottery.corpus.reading import listed, shortened
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator

    from ks_lottery.corpus.reading import Request

DOCUMENT = frozenset({"file", "filename", "x-file", "x-filename", "document", "x-document"})
"""Types of a unit's ``prop`` that name the document it stood in; TMX itself has none."""

LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"


def read_tmx(request: Request, left_out: Counter[str]) -> Iterator[Pair]:
    """Yield the pairs of the units that have both languages.

    Of several variants of a language in a unit the best is taken (see `language_rank`), the first of equals. Units
    without one of the languages are counted, and units with a character that XML forbids or an entity.

    Raises
    ------
    UserError
        When the file is no well-formed TMX (named by line), or no unit has both languages.
    """
    from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]  (it comes without types)

    languages: dict[str, None] = {}
    complete = units = 0
    with opened(request.path) as handle:
        parser = etree.iterparse(
            MendedXml(handle, request.path),
            events=("start", "end"),
            resolve_entities=False,
            no_network=True,
            load_dtd=False,
            huge_tree=False,
        )
        try:
            for event, element in parser:
                if event == "start":
                    if element.getparent() is None and local_name(element) != "tmx":
                        raise UserError(
                            f"{request.path} is no TMX file: its root is {shortened(local_name(element), 40)}"
                        )
                    continue
                if local_name(element) != "tu":
                    continue
                units += 1
                sides = _variants(element)
                languages.update(dict.fromkeys(sides))
                source, target = (best_match(sides, wanted) for wanted in _wanted(request))
                if source is None or target is None:
                    left_out["other languages"] += 1
                elif MARK in sides[source] + sides[target]:
                    complete += 1
                    left_out["invalid characters"] += 1
                else:
                    complete += 1
                    yield Pair(sides[source], sides[target], _document(element))
                _forget(element)
        except etree.XMLSyntaxError as error:
            raise UserError(
                f"{request.path}, line {error.lineno} is not well-formed XML ({shortened(error.msg)}): get the file "
                "again, or mend it"
            ) from error
    if units and not complete:
        raise UserError(
            f"{request.path} has no unit in {' and '.join(_wanted(request))}; its languages are {listed(languages)}"
        )


def _wanted(request: Request) -> tuple[str, str]:
    return request.source_language, request.target_language


def _variants(unit: Any) -> dict[str, str]:
    """Return the sentence in each language of a unit: of several in the same one the first that can be used, else the first."""
    sides: dict[str, str] = {}
    for variant in unit:
        if local_name(variant) != "tuv":
            continue
        code = variant.get(LANGUAGE) or variant.get("lang") or ""  # TMX before 1.4 has a plain lang
        segment = next((child for child in variant if local_name(child) == "seg"), None)
        if segment is not None and not _is_usable(sides.get(code, "")):
            sentence = sentence_of(segment)
            if code not in sides or _is_usable(sentence):
                sides[code] = sentence
    return sides


def _is_usable(sentence: str) -> bool:
    return bool(sentence) and MARK not in sentence


def _document(unit: Any) -> str:
    for child in unit:
        if local_name(child) == "prop" and child.get("type", "").lower() in DOCUMENT:
            return (child.text or "").replace(MARK, "").strip()
    return ""


def _forget(unit: Any) -> None:
    """Free what was read."""
    unit.clear()
    while unit.getprevious() is not None:
        del unit.getparent()[0]
