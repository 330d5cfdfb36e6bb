"""A scan as one table: the columns of its file and of its data frame, and the checks of a file that is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ks_lottery.config.choices import SCORES
from ks_lottery.errors import UserError
from ks_lottery.store.files import read_table
from ks_lottery.store.schema import MAKE_AGAIN, field, is_number, is_whole, mapping, real_column, sources, whole_column
from ks_lottery.tickets.distributions import read_quantiles

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from ks_lottery.tickets.distributions import Quantiles
    from ks_lottery.tickets.scan import Scan

MEASURED = ("moved", "zeros", "distance", "largest", "spread", "cos", "absolute", "absolute_signed", "relative", "kl")
"""Columns that the file has as the scan has them."""


UNCOMPARED = ("only_in_base", "only_in_tuned", "unequal", "integers")
"""Settings of a scan that name tensors which were not compared."""


def table_columns(
    scan: Scan, tokens: Sequence[str] | None = None, kinds: Sequence[str] | None = None
) -> dict[str, Any]:
    """Return one entry a unit: tensor, row, token and its kind where they are given, k, D, p, log p, moves, rivals, ranks."""
    import pyarrow as pa

    names = pa.array([part.tensor for part in scan.parts])
    place = np.concatenate([np.full(part.count, i, dtype=np.int32) for i, part in enumerate(scan.parts)])
    columns: dict[str, Any] = {"tensor": pa.DictionaryArray.from_arrays(place, names), "row": scan.rows}
    if tokens is not None:
        columns["token"] = [text for part in scan.parts for text in scan.tokens_of(part, tokens)]
    if kinds is not None:
        columns["kind"] = pa.array(
            [text for part in scan.parts for text in scan.tokens_of(part, kinds)]
        ).dictionary_encode()
    return columns | {
        "count": scan.counts,
        "statistic": scan.statistics,
        "pvalue": scan.pvalues,
        "log_pvalue": scan.log_pvalues,
        **{name: getattr(scan, name) for name in MEASURED},
        "ratio": scan.ratio,
        **{f"rank_{name.replace('-', '_')}": scan.rank(name) for name in SCORES},
    }


LOWEST = {"distance": 0.0, "largest": 0.0, "spread": 0.0, "absolute": 0.0}
"""Columns of numbers that are never below 0 and always defined; the others can be NaN."""

LARGEST = 1 << 26
"""Coordinates of a unit that are taken for possible: the null distribution is a table of as many entries."""

_PART = {
    "tensor": (lambda value: isinstance(value, str), "a text"),
    "compared_as": (lambda value: isinstance(value, str), "a text"),
    "start": (is_whole, "a whole number from 0"),
    "count": (lambda value: is_whole(value, 1), "a whole number from 1"),
    "width": (lambda value: is_whole(value, 1), "a whole number from 1"),
    "removed": (is_whole, "a whole number from 0"),
    "added": (is_whole, "a whole number from 0"),
}

_Part = dict[str, Any]


def read_scan_table(
    path: Path,
) -> tuple[list[_Part], dict[str, npt.NDArray[Any]], Quantiles | None, dict[str, Any], dict[str, Any]]:
    """Read the file of a scan, and check what it says against itself.

    Returns
    -------
    parts, columns, quantiles, made_from, settings
        Fields of each part, and the columns by the names that a scan has them under.

    Raises
    ------
    UserError
        When it is not that of a scan, or its columns are missing, of another type, out of range, or not those of its parts.
    """
    columns, about = read_table(path, "scan")
    settings = mapping(path, about, "settings")
    parts = _parts(path, settings)
    counts = np.array([part["count"] for part in parts], dtype=np.int64)
    found = len(columns.get("row", ()))
    if int(counts.sum()) != found:
        raise UserError(f"{path} has {found:,} rows, but its parts have {int(counts.sum()):,}: {MAKE_AGAIN}")
    widths = np.repeat(np.array([part["width"] for part in parts], dtype=np.int64), counts)
    rows = whole_column(path, columns, "row")
    if not np.array_equal(rows, np.concatenate([np.arange(count) for count in counts])):
        raise UserError(f"{path}: column row does not count the units of each tensor from 0: {MAKE_AGAIN}")
    arrays: dict[str, npt.NDArray[Any]] = {"counts": whole_column(path, columns, "count", high=widths)}
    arrays |= {name: whole_column(path, columns, name, high=widths) for name in ("moved", "zeros")}
    columns.setdefault("absolute_signed", np.full(found, np.nan))
    for name in MEASURED:
        if name not in arrays:
            low = LOWEST.get(name, -np.inf)
            arrays[name] = real_column(path, columns, name, low=low, undefined=name not in LOWEST)
    if bool(((arrays["counts"] > 0) & (arrays["moved"] == 0)).any()):
        raise UserError(f"{path}: a unit that did not move has a count above 0: {MAKE_AGAIN}")
    known = {name: value for name, value in settings.items() if name != "parts"}
    _check_settings(path, known)
    return parts, arrays, read_quantiles(path, columns), sources(path, about), known


def _parts(path: Path, settings: Mapping[str, Any]) -> list[_Part]:
    listed = field(path, settings, "parts", lambda v: isinstance(v, list) and v != [], "a list of tensors")
    start, parts = 0, list[_Part]()
    for given in listed:
        part: _Part = {"removed": 0, "added": 0, **(given if isinstance(given, dict) else {})}
        for name, (check, wanted) in _PART.items():
            field(path, part, name, check, wanted)
        if part["start"] != start or part.keys() != _PART.keys():
            raise UserError(f"{path}: its parts do not follow each other: {MAKE_AGAIN}")
        start += part["count"]
        parts.append(part)
    if len({part["tensor"] for part in parts}) < len(parts):
        raise UserError(f"{path} has two parts of one tensor: {MAKE_AGAIN}")
    if max(part["width"] for part in parts) > LARGEST:
        raise UserError(f"{path}: its rows are wider than those of any model: {MAKE_AGAIN}")
    return parts


def _check_settings(path: Path, settings: Mapping[str, Any]) -> None:
    for name in ("vocabulary", *UNCOMPARED):
        names: Any = settings.get(name, [])
        if not isinstance(names, list) or not all(isinstance(text, str) for text in names):
            raise UserError(f"{path}: {name} is not a list of tensors: {MAKE_AGAIN}")
    matched: Any = settings.get("matched", {})
    if not isinstance(matched, dict) or not all(isinstance(text, str) for text in matched.values()):
        raise UserError(f"{path}: matched is not an object of names: {MAKE_AGAIN}")
    elsewhere = settings.get("elsewhere")
    if elsewhere is not None and not is_whole(elsewhere):
        raise UserError(f"{path}: elsewhere is not a number of tensors: {MAKE_AGAIN}")
    short: Any = settings.get("shortfall")
    if short is None and "shortfall" not in settings:
        return
    factor: Any = short.get("factor") if isinstance(short, dict) else ""
    if (
        not isinstance(short, dict)
        or not is_number(short.get("alpha"), 0, 1)
        or not (factor is None or is_number(factor, 0))
    ):
        raise UserError(f"{path}: shortfall is not that of a scan: {MAKE_AGAIN}")
