"""Checks of what an opened artifact contains: keys of its manifest and columns of its table, by type and range.

Every fault is one sentence that names the file and the key or column.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import numpy.typing as npt

MAKE_AGAIN = "make it again, or give another file"


def is_whole(value: Any, low: int | None = 0) -> bool:
    """Say whether a value of a manifest is a whole number from `low` (None: any) that fits into 64 bits."""
    if not isinstance(value, int) or isinstance(value, bool) or not -(1 << 63) <= value < 1 << 63:
        return False
    return low is None or value >= low


def is_number(value: Any, low: float = -math.inf, high: float = math.inf) -> bool:
    """Say whether a value of a manifest is a finite number from `low` to `high`."""
    if isinstance(value, int) and not isinstance(value, bool):
        return is_whole(value, None) and low <= value <= high
    return isinstance(value, float) and math.isfinite(value) and low <= value <= high


def field(path: Path, content: Mapping[str, Any], key: str, check: Callable[[Any], bool], wanted: str) -> Any:
    """Return a value of a manifest.

    Parameters
    ----------
    check, wanted
        What the value must be, as a function and in words.

    Raises
    ------
    UserError
        When it is missing or is something else.
    """
    if key not in content:
        raise UserError(f"{path} has no {key}: {MAKE_AGAIN}")
    if not check(content[key]):
        raise UserError(f"{path}: {key} is {short(content[key])}, but must be {wanted}: {MAKE_AGAIN}")
    return content[key]


def mapping(path: Path, content: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return a value of a manifest that must be an object; see `field`."""
    return field(path, content, key, lambda value: isinstance(value, dict), "an object")


def sources(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an artifact was made from: an object whose ``base`` and ``patch``, where it has them, are readable.

    Raises
    ------
    UserError
        When it is missing, or one of them is something else.
    """
    made_from = mapping(path, content, "made_from")
    base = made_from.get("base", {})
    texts = isinstance(base, dict) and all(isinstance(base.get(key, ""), str) for key in ("name", "fingerprint"))
    if not texts:
        raise UserError(
            f"{path}: its base is {short(base)}, but must be an object with a name and a fingerprint: {MAKE_AGAIN}"
        )
    patch, compared = made_from.get("patch"), made_from.get("compared", {})
    if not (patch is None or isinstance(patch, str)) or not isinstance(compared, dict):
        raise UserError(f"{path}: made_from does not name what it was made from by fingerprints: {MAKE_AGAIN}")
    return made_from


def whole_column(
    path: Path, columns: Mapping[str, Any], name: str, *, low: int = 0, high: int | npt.NDArray[np.int64] | None = None
) -> npt.NDArray[np.int64]:
    """Return a column of whole numbers from `low` to `high` (one bound, one for each row, or None), as int64.

    Raises
    ------
    UserError
        When it is missing, of another type, or out of range.
    """
    values = _column(path, columns, name)
    if values.dtype.kind not in "iu":
        raise UserError(f"{path}: column {name} is of type {values.dtype}, but must be whole numbers: {MAKE_AGAIN}")
    bad = values < low if high is None else (values < low) | (values > high)
    if values.dtype.kind == "u":
        bad |= values > np.iinfo(np.int64).max
    if bad.any():
        end = "" if high is None else f" to {high}" if isinstance(high, int) else " to the width of the row"
        raise UserError(f"{path}: column {name} holds {values[bad][0]}, but must be from {low}{end}: {MAKE_AGAIN}")
    return values.astype(np.int64)


def real_column(
    path: Path,
    columns: Mapping[str, Any],
    name: str,
    *,
    low: float = -np.inf,
    high: float = np.inf,
    undefined: bool = False,
) -> npt.NDArray[np.float64]:
    """Return a column of numbers from `low` to `high`, as float64; NaN only where `undefined` allows it.

    Raises
    ------
    UserError
        When it is missing, of another type, or out of range.
    """
    values = _column(path, columns, name)
    if values.dtype.kind != "f":
        raise UserError(f"{path}: column {name} is of type {values.dtype}, but must be numbers: {MAKE_AGAIN}")
    good = (values >= low) & (values <= high)
    if undefined:
        good |= np.isnan(values)
    if not good.all():
        raise UserError(
            f"{path}: column {name} holds {values[~good][0]}, but must be numbers from {low:g} to {high:g}: {MAKE_AGAIN}"
        )
    return values.astype(np.float64)


def _column(path: Path, columns: Mapping[str, Any], name: str) -> npt.NDArray[Any]:
    if name not in columns:
        raise UserError(f"{path} has no column {name}: {MAKE_AGAIN}")
    values = np.asarray(columns[name])
    if values.ndim != 1:
        raise UserError(f"{path}: column {name} is not a plain column: {MAKE_AGAIN}")
    return values


def short(value: object) -> str:
    """Show a value of any size in a few characters."""
    if isinstance(value, list | dict) and len(value) > 8:
        return f"{len(value):,} values"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
