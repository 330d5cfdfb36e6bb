"""Texts of one language: a line each, or the text of a JSON object or of a row of a dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ks_lottery.corpus.corpus import Pair
from ks_lottery.corpus.lines import numbered_lines
from ks_lottery.corpus.packed import ending_of
from ks_lottery.corpus.reading import listed
from ks_lottery.corpus.records import json_records
from ks_lottery.corpus.white_space import trimmed
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Iterator

    from ks_lottery.corpus.reading import Request

PLAIN = "plain"
"""Name of the format."""

KEY = "text"
"""Key of a text, unless `target_column` names another one."""

JSON = frozenset({".json", ".jsonl", ".ndjson"})
"""Endings of files that hold objects; every other file holds a text a line."""


def read_plain(request: Request, left_out: Counter[str]) -> Iterable[Pair]:  # noqa: ARG001 (every line is a text)
    """Read a text a line, blank lines skipped; or, from JSON, a text an object.

    Raises
    ------
    UserError
        When a second file or a source column is given, which such a text has not.
    """
    if request.target is not None or request.source_column is not None:
        raise UserError(
            f"{request.path} is read as plain, text of one language: leave `target` and `source_column` out, or give the "
            "`format` of parallel text"
        )
    if ending_of(request.path) in JSON:
        return plain_records(json_records(request.path), str(request.path), request)
    if request.target_column is not None:
        raise UserError(f"{request.path} is read as plain, a text a line: leave `target_column` out")
    return (Pair("", trimmed(line)) for _, line in numbered_lines(request.path) if line.strip())


def plain_records(records: Iterable[Any], origin: str, request: Request) -> Iterator[Pair]:
    """Yield the text of each record: under the key that `target_column` names, or ``text``. ``document`` is kept.

    Raises
    ------
    UserError
        When a record has no such text.
    """
    key = request.target_column or KEY
    for number, record in enumerate(records, start=1):
        where = f"{origin}, record {number}"
        if not isinstance(record, dict):
            raise UserError(f"{where} is not an object: give objects with a text")
        if key not in record:
            raise UserError(
                f"{where} has no {key!r}; it has {listed(map(str, record))}: name the text with `target_column`"
            )
        text = "" if record[key] is None else record[key]
        if not isinstance(text, str):
            raise UserError(f"{where}: {key!r} is {type(text).__name__}, but must be text")
        document = record.get("document")
        yield Pair("", trimmed(text), str(document) if isinstance(document, str | int | float) else "")
