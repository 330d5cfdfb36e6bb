"""Exact bounds of the share of a finite pool that fails, from units drawn without replacement; and how many must be drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from ks_lottery.stats.betting import betting_pvalue

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

_ROUNDING = 1e-9
"""A tail this near to delta, relative to it, is not below delta."""


def hypergeometric_pvalue(
    failures: npt.ArrayLike, n: npt.ArrayLike, size: npt.ArrayLike, epsilon: npt.ArrayLike
) -> npt.NDArray[np.float64]:
    """Return the exact p-value of "more than a share epsilon of the pool fails", from units drawn without replacement.

    P(X <= failures) for X hypergeometric: n units of a pool of `size`, of which floor(epsilon size) + 1 fail, the fewest
    that exceed epsilon.

    Parameters
    ----------
    failures
        Drawn units that failed, whole numbers from 0 to `n`, any shape.
    n
        Units drawn, from 1 to `size`.
    size
        Units of the pool.
    epsilon
        Share in question, in (0, 1).

    Returns
    -------
    numpy.ndarray
        p in [0, 1], of the common shape.

    Raises
    ------
    ValueError
        If a value is not as above.

    Examples
    --------
    >>> float(hypergeometric_pvalue(0, 90, 185, 0.05).round(5)), float(hypergeometric_pvalue(0, 44, 120, 0.05).round(4))
    (0.001, 0.0368)
    """
    k, drawn, pool = _counts(failures, n, size)
    rate = np.asarray(epsilon, dtype=np.float64)
    _check_open("epsilon", rate)
    return _tail(k, pool, np.floor(rate * pool) + 1.0, drawn)


def hypergeometric_upper(
    failures: npt.ArrayLike, n: npt.ArrayLike, size: npt.ArrayLike, delta: float
) -> npt.NDArray[np.float64]:
    """Return the exact upper bound of the share of a pool that fails, at confidence 1 - delta.

    The largest K / size at which P(X <= failures) exceeds delta, X hypergeometric with K failures in the pool: the tests of
    `hypergeometric_pvalue`, inverted (Konijn 1973; Buonaccorsi 1987). It holds in every pool, with no condition on delta.

    Parameters
    ----------
    failures, n, size
        As for `hypergeometric_pvalue`.
    delta
        Probability that the bound fails, in (0, 1).

    Returns
    -------
    numpy.ndarray
        Shares K / size, at least `failures` / `size`.

    Raises
    ------
    ValueError
        If a value is not as above.

    Notes
    -----
    A bisection over whole K: O(log size) tails. The tail falls as K grows.

    Examples
    --------
    >>> float(hypergeometric_upper(0, 90, 185, 0.05) * 185), float(hypergeometric_upper(0, 20, 20, 0.05))
    (4.0, 0.0)
    """
    _check_open("delta", np.asarray(delta))
    k, drawn, pool = _counts(failures, n, size)
    low, high = k.copy(), pool - drawn + k  # there are at least `low` failures and at most `high`
    level = delta * (1.0 - _ROUNDING)
    while (low < high).any():
        middle = np.ceil((low + high) / 2.0)
        possible = _tail(k, pool, middle, drawn) > level
        low, high = np.where(possible, middle, low), np.where(possible, high, np.maximum(middle - 1.0, low))
    return low / pool


def units_needed(size: int | None, epsilon: float, delta: float, *, any_loss: bool) -> int | None:
    """Return how many units must be drawn to show a loss of at most epsilon, if none of them shows any loss.

    Parameters
    ----------
    size
        Units of the pool; None where it has no end, for `betting_pvalue` alone.
    any_loss
        By `hypergeometric_pvalue`; otherwise by `betting_pvalue`.

    Returns
    -------
    int or None
        None where even the whole pool is not enough, or 100,000 units of an endless one.

    Raises
    ------
    ValueError
        If epsilon or delta is not in (0, 1).
    """
    _check_open("epsilon", np.asarray(epsilon))
    _check_open("delta", np.asarray(delta))
    most = 100_000 if size is None else size

    def shown(n: int) -> bool:
        if any_loss:
            return bool(hypergeometric_pvalue(0, n, most, epsilon) <= delta)
        return bool(betting_pvalue(np.zeros(n), size, epsilon, delta) <= delta)

    return fewest(shown, most)


def fewest(shown: Callable[[int], bool], most: int) -> int | None:
    """Return the smallest number from 1 to `most` for which `shown` holds, by bisection; None where none is.

    Parameters
    ----------
    shown
        Holds for each number above one for which it holds.
    """
    if not shown(most):
        return None
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if shown(middle) else (middle, high)
    return high


def _tail(
    k: npt.NDArray[np.float64],
    size: npt.NDArray[np.float64],
    failing: npt.NDArray[np.float64],
    n: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    from scipy.stats import hypergeom

    return np.asarray(hypergeom.cdf(k, size, failing, n), dtype=np.float64).clip(0.0, 1.0)


def _counts(
    failures: npt.ArrayLike, n: npt.ArrayLike, size: npt.ArrayLike
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    given = (np.asarray(value, dtype=np.float64) for value in (failures, n, size))
    k, drawn, pool = cast("tuple[npt.NDArray[np.float64], ...]", np.broadcast_arrays(*given))
    whole = all((value == np.floor(value)).all() for value in (k, drawn, pool))
    if not whole or not ((k >= 0) & (k <= drawn) & (drawn >= 1) & (drawn <= pool)).all():
        raise ValueError("failures, drawn units and units of the pool must be whole numbers, each at most the next")
    return k, drawn, pool


def _check_open(name: str, value: npt.NDArray[np.float64]) -> None:
    if not ((value > 0.0) & (value < 1.0)).all():
        raise ValueError(f"{name} must be in (0, 1), not {value}")
