"""Readers of parallel text: TSV, CSV, JSON lines, line-aligned files, gettext, Hugging Face datasets.

Must never skip a line that it cannot read: what is wrong is named by file and line.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import lzma
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_lottery.corpus.corpus import Corpus, Pair
from ks_lottery.corpus.gettext import read_catalog
from ks_lottery.corpus.languages import language_name
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

ENDINGS = {
    ".tsv": "tsv", ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".po": "po", ".mo": "mo",
}  # fmt: skip
"""File ending to format."""


@dataclass(frozen=True)
class Request:
    """What a reader is asked for."""

    path: Path
    target: Path | None
    source_language: str
    target_language: str
    source_column: str | None
    target_column: str | None


def read_corpus(
    source: str | Path,
    *,
    source_language: str,
    target_language: str,
    target: str | Path | None = None,
    format: str = "auto",  # noqa: A002 (the config's name for it)
    source_column: str | None = None,
    target_column: str | None = None,
    dataset_config: str | None = None,
    dataset_split: str = "train",
) -> Corpus:
    """Read parallel text.

    Parameters
    ----------
    source
        A file (also ``.gz`` or ``.xz``), or the name of a Hugging Face dataset.
    source_language, target_language
        Codes or English names.
    target
        The other of two line-aligned files.
    format
        ``tsv``, ``csv``, ``jsonl`` (objects with source and target, or Alpaca's input and output), ``lines``, ``po``,
        ``mo``, ``dataset``; ``auto`` goes by the ending.
    source_column, target_column
        Names of columns or keys, where they cannot be told.

    Raises
    ------
    UserError
        For a missing file, an unknown language or format, a line that is not UTF-8 or cannot be read, files of different
        length, a column that is not there, or a text without any pair.
    """
    language_name(source_language)
    language_name(target_language)
    path = Path(source).expanduser()
    kind = format if format != "auto" else _format_of(path, target)
    other = None if target is None else Path(target).expanduser()
    request = Request(path, other, source_language, target_language, source_column, target_column)
    if kind == "dataset":
        from ks_lottery.corpus.hub import read_dataset

        rows = read_dataset(str(source), dataset_config, dataset_split)
        pairs = _from_records(rows, f"dataset {source}", request)
    elif kind in READERS:
        for file in (path, other):
            if file is not None and not file.is_file():
                raise UserError(f"text file {file} does not exist")
        pairs = READERS[kind](request)
    else:
        raise UserError(f"text format {kind} is not known; the formats are {', '.join([*READERS, 'dataset'])}")
    kept = tuple(pair for pair in pairs if pair.source and pair.target)
    if not kept:
        raise UserError(f"{source} holds no pairs of sentences")
    return Corpus(kept, source_language, target_language, str(source))


def _format_of(path: Path, target: object) -> str:
    if target is not None:
        return "lines"
    suffixes = [s for s in path.suffixes if s not in {".gz", ".xz"}]
    ending = suffixes[-1].lower() if suffixes else ""
    if ending in ENDINGS:
        return ENDINGS[ending]
    if path.is_file():
        raise UserError(
            f"the format of {path} cannot be told by its ending: give text.format, one of {', '.join(READERS)}, "
            "or text.target for the other of two line-aligned files"
        )
    if ending or path.is_absolute() or str(path).startswith(".") or len(path.parts) > 2:
        raise UserError(f"text file {path} does not exist")
    return "dataset"


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    r"""Yield line numbers from 1 and lines of a UTF-8 file, split at \n alone, without \r and trailing white space.

    Raises
    ------
    UserError
        When a line is not UTF-8 (named by its number), or a packed file is damaged.
    """
    opener: Callable[..., Any] = {".gz": gzip.open, ".xz": lzma.open}.get(path.suffix, open)
    try:
        with opener(path, "rb") as handle:
            for number, raw in enumerate(handle, start=1):
                try:
                    yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip()
                except UnicodeDecodeError as error:
                    raise UserError(f"{path}, line {number} is not UTF-8: convert the file to UTF-8") from error
    except (EOFError, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise UserError(f"{path} is not a whole packed file: get it again") from error


def _read_table(request: Request, delimiter: str) -> Iterable[Pair]:
    text = io.StringIO("".join(f"{line}\n" for _, line in numbered_lines(request.path)))
    quoting = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    rows = list(csv.reader(text, delimiter=delimiter, quoting=quoting))
    if not rows:
        return
    columns, start = _columns(rows[0], request)
    for number, row in enumerate(rows[start:], start=start + 1):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) <= max(columns):
            raise UserError(
                f"{request.path}, row {number} has {len(row)} column(s), but column {max(columns) + 1} is needed"
            )
        yield Pair(row[columns[0]].strip(), row[columns[1]].strip())


def _columns(header: list[str], request: Request) -> tuple[tuple[int, int], int]:
    """Return the indices of both columns, and the row that the data begin in."""
    names = [cell.strip() for cell in header]
    if request.source_column is not None or request.target_column is not None:
        wanted = (request.source_column or "source", request.target_column or "target")
        for name in wanted:
            if name not in names:
                raise UserError(f"{request.path} has no column {name!r}; it has {', '.join(names)}")
        return (names.index(wanted[0]), names.index(wanted[1])), 1
    lower = [name.lower() for name in names]
    for pair in (("source", "target"), (request.source_language.lower(), request.target_language.lower())):
        if all(name in lower for name in pair):
            return (lower.index(pair[0]), lower.index(pair[1])), 1
    return (0, 1), 0


def _read_tsv(request: Request) -> Iterable[Pair]:
    return _read_table(request, "\t")


def _read_csv(request: Request) -> Iterable[Pair]:
    return _read_table(request, ",")


def _read_json(request: Request) -> Iterable[Pair]:
    if request.path.name.split(".")[-1] == "json" or ".json." in request.path.name:
        text = "\n".join(line for _, line in numbered_lines(request.path))
        try:
            content = json.loads(text)
        except ValueError as error:
            raise UserError(f"{request.path} is not valid JSON: {error}") from error
        if not isinstance(content, list):
            raise UserError(f"{request.path} does not hold a list of objects")
        return _from_records(content, str(request.path), request)
    return _from_records(_json_lines(request.path), str(request.path), request)


def _json_lines(path: Path) -> Iterator[Any]:
    for number, line in numbered_lines(path):
        if not line.strip():
            continue
        try:
            yield json.loads(line)
        except ValueError as error:
            raise UserError(f"{path}, line {number} is not valid JSON") from error


def _from_records(records: Iterable[Any], origin: str, request: Request) -> Iterator[Pair]:
    keys: tuple[str, str] | None = None
    for number, record in enumerate(records, start=1):
        row = record.get("translation", record) if isinstance(record, dict) else record
        if not isinstance(row, dict):
            raise UserError(f"{origin}, record {number} is no object")
        keys = keys or _keys(row, origin, request)
        try:
            source, target = row[keys[0]], row[keys[1]]
        except KeyError as error:
            raise UserError(f"{origin}, record {number} has no {error.args[0]!r}; it has {', '.join(row)}") from error
        if not isinstance(source, str) or not isinstance(target, str):
            raise UserError(f"{origin}, record {number}: {keys[0]!r} and {keys[1]!r} must be text")
        yield Pair(source.strip(), target.strip(), str(row.get("document", "")))


def _keys(row: Mapping[str, Any], origin: str, request: Request) -> tuple[str, str]:
    if request.source_column is not None or request.target_column is not None:
        return request.source_column or "source", request.target_column or "target"
    known = (("source", "target"), ("input", "output"), (request.source_language, request.target_language))
    for pair in known:
        if all(name in row for name in pair):
            return pair
    raise UserError(
        f"{origin} has no columns that are known (source and target, input and output, or the languages' codes); it has "
        f"{', '.join(map(str, row))}: name them with text.source_column and text.target_column"
    )


def _read_lines(request: Request) -> Iterable[Pair]:
    if request.target is None:
        raise UserError(f"{request.path} is one of two line-aligned files: give the other one as text.target")
    source = [line.strip() for _, line in numbered_lines(request.path)]
    target = [line.strip() for _, line in numbered_lines(request.target)]
    if len(source) != len(target):
        raise UserError(
            f"{request.path} has {len(source):,} lines and {request.target} has {len(target):,}: they are not line-aligned"
        )
    return [Pair(s, t) for s, t in zip(source, target, strict=True)]


def _read_gettext(request: Request) -> Iterable[Pair]:
    return [Pair(source, target) for source, target in read_catalog(request.path)[0]]


READERS: dict[str, Callable[[Request], Iterable[Pair]]] = {
    "tsv": _read_tsv,
    "csv": _read_csv,
    "jsonl": _read_json,
    "lines": _read_lines,
    "po": _read_gettext,
    "mo": _read_gettext,
}
"""Format to reader."""
