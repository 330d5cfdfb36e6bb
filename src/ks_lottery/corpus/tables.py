"""Pairs from tables: TSV and CSV, with or without a header."""

from __future__ import annotations

import csv
from itertools import chain
from typing import TYPE_CHECKING

from ks_lottery.corpus.corpus import Pair
from ks_lottery.corpus.languages import best_match
from ks_lottery.corpus.lines import numbered_lines
from ks_lottery.corpus.reading import listed
from ks_lottery.corpus.white_space import trimmed
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from ks_lottery.corpus.reading import Request


def read_tsv(request: Request, left_out: Counter[str]) -> Iterable[Pair]:  # noqa: ARG001 (every row is a pair)
    """Read values apart by tabs, one row a line; a quotation mark is a character like any other."""
    return _pairs(((number, line.split("\t")) for number, line in numbered_lines(request.path)), request)


def read_csv(request: Request, left_out: Counter[str]) -> Iterable[Pair]:  # noqa: ARG001
    """Read values apart by commas, quoted where they hold commas or line breaks."""
    return _pairs(_csv_rows(request.path), request)


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader((f"{line}\n" for _, line in numbered_lines(path)), strict=True)
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(f"{path}, line {reader.line_num} is not valid CSV: {error}") from error
        yield reader.line_num, row


def _pairs(rows: Iterator[tuple[int, list[str]]], request: Request) -> Iterator[Pair]:
    first = next(rows, None)
    if first is None:
        return
    (source, target), header = _columns([cell.strip() for cell in first[1]], request)
    for number, row in rows if header else chain([first], rows):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) <= max(source, target):
            raise UserError(
                f"{request.path}, line {number} has {len(row)} column(s), but column {max(source, target) + 1} is needed"
            )
        yield Pair(*(trimmed(row[place].replace("\n", " ")) for place in (source, target)))


def _columns(first: list[str], request: Request) -> tuple[tuple[int, int], bool]:
    """Return the indices of both columns, and whether the first row is a header."""
    sides = (
        ("source", request.source_column, request.source_language),
        ("target", request.target_column, request.target_language),
    )
    named = [_named(first, side, language) for side, _, language in sides]
    given = [column for _, column, _ in sides]
    if given == [None, None]:
        if None not in named:
            return _pair(named), True
        if len(first) <= 2:
            return (0, 1), False
        raise UserError(
            f"{request.path} has {len(first)} columns and no header that is known (source and target, or the languages): name "
            "two with `source_column` and `target_column`, by the header's names, or by numbers from 1"
        )
    chosen = [named[i] if column is None else _find(first, column) for i, column in enumerate(given)]
    for (side, column, _), place in zip(sides, chosen, strict=True):
        if place is None:
            raise UserError(
                f"{request.path} has no column {column or side!r}; it has {listed(first)} (without a header, give numbers "
                "from 1)"
            )
    header = None not in named or any(column in first for column in given)
    return _pair(chosen), header


def _pair(places: list[int | None]) -> tuple[int, int]:
    source, target = places
    if source is None or target is None:
        raise ValueError("both columns must be known")
    return source, target


def _named(first: list[str], side: str, language: str) -> int | None:
    """Return the column that a header calls by its side or by its language."""
    lower = [name.lower() for name in first]
    if side in lower:
        return lower.index(side)
    name = best_match([name for name in first if len(name) < 40], language)
    return None if name is None else first.index(name)


def _find(first: list[str], column: str) -> int | None:
    if column in first:
        return first.index(column)
    return int(column) - 1 if column.isdecimal() and len(column) < 10 and 1 <= int(column) <= len(first) else None
