"""Pairs from XLIFF 1.2 and 2, through translate-toolkit: finished translations alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ks_lottery.corpus.corpus import Pair
from ks_lottery.corpus.languages import language_rank
from ks_lottery.corpus.markup import local_name, sentence_of
from ks_lottery.corpus.mended_xml import MARK, MendedXml
from ks_lottery.corpus.packed import opened, whole
from ks_lottery.corpus.reading import shortened
from ks_lottery.corpus.unfinished import is_finished, segments
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator

    from ks_lottery.corpus.reading import Request


def read_xliff(request: Request, left_out: Counter[str]) -> Iterator[Pair]:
    """Yield the pairs of the finished units between the two languages, each with the file it says it comes from.

    What is finished, `ks_lottery.corpus.unfinished` says. A unit that SDLXLIFF divides into segments gives a pair a segment.
    Units of files between other languages are counted, and units with a character that XML forbids or an entity.

    Raises
    ------
    UserError
        When the file is no XLIFF, or has no part between these languages.
    """
    store, version = _open(request)
    root = store.document.getroot()
    places = [root] if version == "2" else [child for child in root if local_name(child) == "file"]
    asked = [place for place in places if _is_asked(place, version, request)]
    if places and not asked:
        raise _other_languages(places, version, request)
    for unit in store.units:
        place = root if version == "2" else _file_of(unit.xmlelement)
        source, target = unit.get_source_dom(), unit.get_target_dom()
        if not any(place is one for one in asked):
            left_out["other languages"] += 1
        elif not unit.istranslatable() or source is None:
            left_out["not to translate"] += 1
        elif target is None or not sentence_of(target):
            left_out["untranslated"] += 1
        else:
            for said, translated, finished in _parts(unit, version, source, target):
                sides = sentence_of(said), sentence_of(translated)
                if not finished:
                    left_out["unfinished"] += 1
                elif MARK in sides[0] + sides[1]:
                    left_out["invalid characters"] += 1
                else:
                    yield Pair(*sides, _document(unit.xmlelement))


def _parts(unit: Any, version: str, source: Any, target: Any) -> list[tuple[Any, Any, bool]]:
    """Return source, target and whether it is finished: of the whole unit, or of each segment that SDLXLIFF divides it into."""
    if version == "2":
        return [(source, target, unit.istranslated())]
    divided = segments(unit.xmlelement, target)
    finished = is_finished(unit.xmlelement, target, segmented=not divided)
    return [(s, t, finished and own) for s, t, own in divided] or [(source, target, finished)]


def _open(request: Request) -> tuple[Any, str]:
    from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]  (it comes without types)

    try:
        from translate.storage.xliff import Xliff1File
        from translate.storage.xliff2 import Xliff2File
    except ImportError as error:
        raise UserError(
            f"{request.path} is XLIFF, which translate-toolkit reads: pip install translate-toolkit (GPL-3.0-or-later)"
        ) from error
    with opened(request.path) as handle:
        content = whole(request.path, MendedXml(handle, request.path))
    try:
        root = etree.fromstring(content, etree.XMLParser(resolve_entities=False, no_network=True))
    except etree.XMLSyntaxError as error:
        raise UserError(
            f"{request.path}, line {error.lineno} is not well-formed XML ({shortened(error.msg)}): get the file "
            "again, or mend it"
        ) from error
    if local_name(root) != "xliff":
        raise UserError(f"{request.path} is no XLIFF file: its root is {shortened(local_name(root), 40)}")
    version = "2" if root.get("version", "").startswith("2") else "1"
    store = Xliff2File() if version == "2" else Xliff1File()
    try:
        store.parse(content)
    except Exception as error:  # it raises what comes for a file without its parts
        reason = shortened(error) or "it has no file element"
        raise UserError(f"{request.path} cannot be read as XLIFF: {reason}: export the file again") from error
    return store, version


def _said(place: Any, version: str) -> list[str | None]:
    """Return the languages that a file element, or the root of XLIFF 2, says it is between."""
    names = ("srcLang", "trgLang") if version == "2" else ("source-language", "target-language")
    return [place.get(name) for name in names]


def _is_asked(place: Any, version: str, request: Request) -> bool:
    wanted = (request.source_language, request.target_language)
    return all(
        not code or language_rank(code, one) is not None
        for code, one in zip(_said(place, version), wanted, strict=True)
    )


def _other_languages(places: list[Any], version: str, request: Request) -> UserError:
    said = [_said(place, version) for place in places]
    pairs = list(
        dict.fromkeys(
            f"from {shortened(source or 'no language', 40)} to {shortened(target or 'none', 40)}"
            for source, target in said
        )
    )
    more = [f"and {len(pairs) - 5:,} more"] if len(pairs) > 5 else []
    return UserError(
        f"{request.path}, line {places[0].sourceline} is {', '.join([*pairs[:5], *more])}, not from "
        f"{request.source_language} to {request.target_language}: give its languages, or another file"
    )


def _file_of(unit: Any) -> Any:
    return next((parent for parent in unit.iterancestors() if local_name(parent) == "file"), None)


def _document(unit: Any) -> str:
    place = _file_of(unit)
    name = "" if place is None else place.get("original") or place.get("id") or ""
    return name.replace(MARK, "")
