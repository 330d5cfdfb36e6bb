"""Pairs from XLIFF 1.2 and 2, through translate-toolkit: finished translations alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ks_lottery.corpus.corpus import Pair
from ks_lottery.corpus.languages import language_rank
from ks_lottery.corpus.lines import opened
from ks_lottery.corpus.markup import local_name, sentence_of
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator

    from ks_lottery.corpus.reading import Request

FINISHED = frozenset({"translated", "signed-off", "final"})
"""States of a target in XLIFF 1.2 that are a translation; all others ask for more work."""

GUESSED = ("fuzzy-", "leveraged-mt", "mt-", "rejected-")
"""Beginnings of the state qualifiers of XLIFF 1.2 that say that nobody translated this sentence."""


def read_xliff(request: Request, left_out: Counter[str]) -> Iterator[Pair]:
    """Yield the pairs of the finished units, each with the file it says it comes from.

    Finished is, in 1.2, a target whose state is translated, signed-off or final and whose qualifier names no guess; one
    without a state, unless its unit is marked as not approved; in 2, a segment whose state is translated, reviewed or final,
    or that has none.

    Raises
    ------
    UserError
        When the file is no XLIFF, or translates between other languages.
    """
    store, version = _open(request)
    _check_languages(store.document.getroot(), version, request)
    for unit in store.units:
        source, target = unit.get_source_dom(), unit.get_target_dom()
        if not unit.istranslatable() or source is None:
            left_out["not to translate"] += 1
        elif target is None or not sentence_of(target):
            left_out["untranslated"] += 1
        elif not (unit.istranslated() if version == "2" else _is_finished(unit.xmlelement, target)):
            left_out["unfinished"] += 1
        else:
            yield Pair(sentence_of(source), sentence_of(target), _document(unit.xmlelement))


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
        content = handle.read()
    try:
        root = etree.fromstring(content, etree.XMLParser(resolve_entities=False, no_network=True))
    except etree.XMLSyntaxError as error:
        raise UserError(
            f"{request.path}, line {error.lineno} is not well-formed XML ({error.msg}): get the file again, or mend it"
        ) from error
    if local_name(root) != "xliff":
        raise UserError(f"{request.path} is no XLIFF file: its root is {local_name(root)}")
    version = "2" if root.get("version", "").startswith("2") else "1"
    store = Xliff2File() if version == "2" else Xliff1File()
    try:
        store.parse(content)
    except (
        ValueError,
        StopIteration,
        AttributeError,
        KeyError,
    ) as error:  # what it raises for a file without its parts
        raise UserError(f"{request.path} cannot be read as XLIFF: {error or 'it has no file element'}") from error
    return store, version


def _check_languages(root: Any, version: str, request: Request) -> None:
    places = [root] if version == "2" else [child for child in root if local_name(child) == "file"]
    names = ("srcLang", "trgLang") if version == "2" else ("source-language", "target-language")
    for place in places:
        said = [place.get(name) for name in names]
        wanted = [request.source_language, request.target_language]
        if any(one and language_rank(one, other) is None for one, other in zip(said, wanted, strict=True)):
            raise UserError(
                f"{request.path}, line {place.sourceline} is from {said[0] or 'no language'} to {said[1] or 'none'}, not from "
                f"{wanted[0]} to {wanted[1]}"
            )


def _is_finished(unit: Any, target: Any) -> bool:
    if target.get("state-qualifier", "").startswith(GUESSED):
        return False
    state = target.get("state")
    return state in FINISHED if state else unit.get("approved", "yes") == "yes"


def _document(unit: Any) -> str:
    place = next((parent for parent in unit.iterancestors() if local_name(parent) == "file"), None)
    return "" if place is None else place.get("original") or place.get("id") or ""
