"""Pairs from records: JSON lines, JSON lists such as Alpaca files, and rows of datasets."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, Any

from ks_lottery.corpus.corpus import Pair
from ks_lottery.corpus.languages import best_match
from ks_lottery.corpus.lines import numbered_lines
from ks_lottery.corpus.packed import opened
from ks_lottery.corpus.reading import listed
from ks_lottery.corpus.white_space import trimmed
from ks_lottery.errors import UserError
from ks_lottery.store.json_content import LARGEST, parse_json

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from ks_lottery.corpus.reading import Request

INPUT = "input"
"""Alpaca's key of what an instruction is about; an instruction that needs none may leave it out."""

KNOWN = (("source", "target"), (INPUT, "output"))
"""Keys of both sides that need not be named; ``input`` and ``output`` are Alpaca's."""


def read_json(request: Request, left_out: Counter[str]) -> Iterable[Pair]:  # noqa: ARG001 (every record is a pair)
    """Read a list of objects, as Alpaca files are; a file of one object a line is read as such, whatever its ending."""
    return from_records(json_records(request.path), str(request.path), request)


def json_records(path: Path) -> Iterable[Any]:
    """Return the objects of a JSON file: of a list, or one a line, whatever the ending of its name."""
    with opened(path) as handle:
        head = handle.read(4096)
        if head.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"{"):
            return _json_lines(path)
        content = _parsed(head + handle.read(LARGEST + 1 - len(head)), str(path))
    if not isinstance(content, list):
        raise UserError(f"{path} does not hold a list of objects: give a list, or one object a line")
    return content


def _parsed(raw: bytes, name: str) -> Any:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise UserError(f"{name}, line {line} is not UTF-8: convert the file to UTF-8") from error
    return parse_json(text, name, "write one object a line, and name the file .jsonl")


def read_json_lines(request: Request, left_out: Counter[str]) -> Iterable[Pair]:  # noqa: ARG001
    """Read one object a line."""
    return from_records(_json_lines(request.path), str(request.path), request)


def _json_lines(path: Path) -> Iterator[Any]:
    for number, line in numbered_lines(path):
        if not line.strip():
            continue
        yield parse_json(line, f"{path}, line {number}", "write one JSON object a line")


def from_records(records: Iterable[Any], origin: str, request: Request) -> Iterator[Pair]:
    """Yield the pairs of records.

    A record has both sides under known keys, under the languages' codes, the latter also one level down under
    ``translation``, or under the names that the user gave (``translation.en`` for one that lies deeper). A missing value
    (null) is an empty sentence, and so is Alpaca's ``input`` where a record with an ``instruction`` lacks it. ``instruction``
    and ``document`` are kept where a record has them.
    """
    keys: tuple[str, str] | None = None
    for number, record in enumerate(records, start=1):
        if not isinstance(record, dict):
            raise UserError(f"{origin}, record {number} is not an object: give objects with both sentences")
        keys = keys or _keys(record, origin, request)
        source, target = (_text(record, key, f"{origin}, record {number}") for key in keys)
        instruction, document = record.get("instruction"), record.get("document")
        yield Pair(
            source,
            target,
            str(document) if isinstance(document, str | int | float) else "",
            trimmed(instruction) if isinstance(instruction, str) else "",
        )


def _keys(record: Mapping[str, Any], origin: str, request: Request) -> tuple[str, str]:
    known = _known(record, request)
    given = (request.source_column, request.target_column)
    if given == (None, None) and known is not None:
        return known
    if given != (None, None) and (known is not None or None not in given):
        source, target = known or ("", "")
        return request.source_column or source, request.target_column or target
    raise UserError(
        f"{origin} has no keys that are known (source and target, input and output, or the languages' codes); it has "
        f"{listed(_shown(record))}: name them with `source_column` and `target_column`"
    )


def _known(record: Mapping[str, Any], request: Request) -> tuple[str, str] | None:
    for pair in KNOWN:
        if all(name in record for name in pair):
            return pair
    if "output" in record and isinstance(record.get("instruction"), str):
        return KNOWN[-1]  # an instruction that needs no input
    nested = record.get("translation")
    inside = nested if isinstance(nested, dict) else record
    names = [str(name) for name in inside]
    source, target = (best_match(names, language) for language in (request.source_language, request.target_language))
    if source is None or target is None:
        return None
    lead = "translation." if inside is nested else ""
    return lead + source, lead + target


def _shown(record: Mapping[str, Any]) -> Iterator[str]:
    for name, value in record.items():
        if isinstance(value, dict):
            yield from (f"{name}.{inner}" for inner in value)
        else:
            yield str(name)


def _text(record: Mapping[str, Any], key: str, where: str) -> str:
    value: Any = record
    if key == INPUT and key not in record and isinstance(record.get("instruction"), str):
        return ""
    for part in [key] if key in record else key.split("."):
        if not isinstance(value, dict) or part not in value:
            raise UserError(f"{where} has no {key!r}; it has {listed(_shown(record))}")
        value = value[part]
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UserError(f"{where}: {key!r} is {type(value).__name__}, but must be text")
    return trimmed(value)
