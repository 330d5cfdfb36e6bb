"""Distributions of the first units of a scan, before and after, as quantiles: small enough to be saved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_lottery.errors import UserError
from ks_lottery.store.schema import MAKE_AGAIN

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

NUMBER = 128
"""Quantiles of each side of a unit: those at (i + 1/2) / 128, each a coordinate of the unit."""

SIDES = ("before", "after")


@dataclass(frozen=True, kw_only=True, eq=False)
class Quantiles:
    """Quantiles of some units.

    Parameters
    ----------
    units
        Units in the scan, shape (R,), ascending.
    before, after
        Ascending quantiles of each, shape (R, `NUMBER`), float32.
    """

    units: npt.NDArray[np.int64]
    before: npt.NDArray[np.float32]
    after: npt.NDArray[np.float32]

    def within(self, start: int, stop: int) -> Quantiles:
        """Return those of the units `start` to `stop`, which are numbered from 0 then."""
        keep = (self.units >= start) & (self.units < stop)
        return Quantiles(units=self.units[keep] - start, before=self.before[keep], after=self.after[keep])

    def columns(self, count: int) -> dict[str, Any]:
        """Return two columns of lists for the table of a scan of `count` units, null where a unit has no quantiles."""
        import pyarrow as pa

        lengths = np.zeros(count + 1, dtype=np.int32)
        lengths[self.units + 1] = NUMBER
        offsets = np.cumsum(lengths, dtype=np.int32)
        known = lengths[1:] > 0
        return {
            f"{side}_quantiles": pa.ListArray.from_arrays(
                pa.array(offsets), pa.array(getattr(self, side).reshape(-1)), mask=pa.array(~known)
            )
            for side in SIDES
        }


def quantiles_of_rows(values: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float32]:
    """Return the quantiles of each row, shape (R, `NUMBER`): the coordinate at (i + 1/2) / `NUMBER` of the sorted row.

    >>> quantiles_of_rows(np.arange(256.0)[None])[0, :3].tolist()
    [1.0, 3.0, 5.0]
    """
    places = ((np.arange(NUMBER) + 0.5) / NUMBER * values.shape[1]).astype(np.int64)
    return np.sort(values, axis=1)[:, places].astype(np.float32)


def read_quantiles(path: Path, columns: Mapping[str, Any]) -> Quantiles | None:
    """Return the quantiles in the columns of a scan's table; None where an earlier version wrote it.

    Raises
    ------
    UserError
        When they are not ascending finite numbers, as many of each side.
    """
    names = [f"{side}_quantiles" for side in SIDES]
    if not any(name in columns for name in names):
        return None
    try:
        known = [np.array([one is not None for one in columns[name]], dtype=bool) for name in names]
        units = np.flatnonzero(known[0])
        before, after = (
            np.stack([np.asarray(one, dtype=np.float32) for one in columns[name][units]])
            if len(units)
            else np.empty((0, NUMBER), dtype=np.float32)
            for name in names
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: its quantiles are not whole: {MAKE_AGAIN}") from error
    whole = all(
        side.shape == (len(units), NUMBER) and bool(np.isfinite(side).all()) and bool((np.diff(side) >= 0).all())
        for side in (before, after)
    )
    if not whole or not np.array_equal(known[0], known[1]):
        raise UserError(f"{path}: its quantiles are not ascending numbers of both sides: {MAKE_AGAIN}")
    return Quantiles(units=units, before=before, after=after)
