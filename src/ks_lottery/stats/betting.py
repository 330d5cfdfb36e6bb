"""Bounds of the mean loss of a pool by betting: of a finite one, from units drawn without replacement, or an endless one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

LARGEST_BET = 0.9
"""Share of the largest bet that keeps the wealth positive (the paper's c): a unit of loss 1 leaves at least 1 - 0.9 of it."""

_ROUNDING = 1e-9
"""The mean that the rest of a pool would need counts as possible where it is this little above 1, relative to the pool."""

_HALVINGS = 44
"""Of [0, 1] by the bisection: the bound comes out within 1e-13."""


def betting_pvalue(
    losses: npt.ArrayLike, size: int | None, epsilon: npt.ArrayLike, delta: float
) -> npt.NDArray[np.float64]:
    """Return the p-value of "the mean loss of the pool exceeds epsilon", by betting against it.

    A gambler with wealth 1 bets before each unit that its loss X_t is below what "mean loss m" expects of it. The wealth

        K_t(m) = prod over i <= t of (1 + l_i (m_i - X_i)),    m_i = (N m - X_1 - ... - X_(i-1)) / (N - i + 1)

    is a supermartingale where the mean loss of the N units of the pool is at least m, so that it ever reaches 1/p with
    probability at most p (Ville): p = 1 / max over t of K_t. Waudby-Smith & Ramdas, "Estimating means of bounded random
    variables by betting", JRSS B 2024, section on sampling without replacement. The bets are theirs for a fixed number n of
    units, and depend on earlier units alone::

        l_i = min(sqrt(2 ln(1/delta) / (n v_(i-1))), c / (1 - m_i)),    c = 0.9
        v_t = (1/4 + sum over j <= t of (X_j - u_j)^2) / (t + 1),   u_t = (1/2 + X_1 + ... + X_t) / (t + 1)

    Parameters
    ----------
    losses
        In [0, 1], shape (..., n), **in the order of the draw**. The value depends on that order, so it must have been fixed
        without looking at the losses.
    size
        Units N of the pool, at least n; None for independent units, where m_i = m.
    epsilon
        Mean loss in question, in (0, 1), of the shape of the draws.
    delta
        Level that the bets are tuned to, in (0, 1). The p-value is valid at every level.

    Returns
    -------
    numpy.ndarray
        p in [0, 1], shape (...); it falls as epsilon grows. 0 where the units that were not drawn would need a mean above 1.

    Raises
    ------
    ValueError
        If a value is not as above.

    Examples
    --------
    >>> float(betting_pvalue([0.0] * 90, 185, 0.05, 0.05).round(4)), float(betting_pvalue([0.5] * 90, 185, 0.05, 0.05))
    (0.0033, 1.0)
    """
    x = _losses(losses, size)
    _check_open("delta", np.asarray(delta))
    rate = np.broadcast_to(np.asarray(epsilon, dtype=np.float64), x.shape[:-1])
    _check_open("epsilon", rate)
    return np.exp(-np.maximum(_log_wealth(x, _bets(x, delta), size, rate).max(axis=-1), 0.0))


def betting_upper(losses: npt.ArrayLike, size: int | None, delta: float) -> npt.NDArray[np.float64]:
    """Return an upper bound of the mean loss of a pool at confidence 1 - delta: the smallest m that `betting_pvalue` rejects.

    Parameters
    ----------
    losses, size
        As for `betting_pvalue`.
    delta
        Probability that the bound fails, in (0, 1).

    Returns
    -------
    numpy.ndarray
        Bounds in [0, 1], shape (...). By bisection to 1e-13, and the end that is rejected is returned; 1 where none below is.

    Raises
    ------
    ValueError
        If a value is not as above.

    Notes
    -----
    The wealth grows with m, so what is rejected is an interval up to 1. O(n) a draw and halving.

    Examples
    --------
    >>> float(betting_upper([0.0] * 90, 185, 0.05).round(4)), float(betting_upper([0.2, 0.4] * 10, 20, 0.05).round(4))
    (0.0267, 0.3)
    """
    _check_open("delta", np.asarray(delta))
    x = _losses(losses, size)
    bets, enough = _bets(x, delta), -math.log(delta)
    low, high = np.zeros(x.shape[:-1]), np.ones(x.shape[:-1])
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        rejected = _log_wealth(x, bets, size, middle).max(axis=-1) >= enough
        low, high = np.where(rejected, low, middle), np.where(rejected, middle, high)
    return high


def _bets(x: npt.NDArray[np.float64], delta: float) -> npt.NDArray[np.float64]:
    """Return the bet on each unit, of the shape of the losses, before it is cut to what the wealth can bear."""
    n = x.shape[-1]
    count = np.arange(2.0, n + 2.0)
    mean = (0.5 + x.cumsum(axis=-1)) / count
    variance = (0.25 + ((x - mean) ** 2).cumsum(axis=-1)) / count
    before = np.concatenate([np.full((*x.shape[:-1], 1), 0.25), variance[..., :-1]], axis=-1)
    return np.sqrt(2.0 * math.log(1.0 / delta) / (n * before))


def _log_wealth(
    x: npt.NDArray[np.float64], bets: npt.NDArray[np.float64], size: int | None, m: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return log K_t of each t; infinite from where the rest of the pool would need a mean above 1."""
    n = x.shape[-1]
    if size is None:
        expected, impossible = np.broadcast_to(m[..., None], x.shape), np.zeros(x.shape, dtype=bool)
    else:
        before = np.concatenate([np.zeros((*x.shape[:-1], 1)), x.cumsum(axis=-1)], axis=-1)
        rest = size - np.arange(n + 1.0)
        needed = size * m[..., None] - before
        # Also after the last unit: what was not drawn has a mean of at most 1.
        beyond = np.logical_or.accumulate(needed > rest + _ROUNDING * size, axis=-1)
        expected, impossible = needed[..., :-1] / rest[:-1], beyond[..., 1:]
    # A loss is at least 0, whatever the rest would need; at 1 the bet would have no end.
    expected = expected.clip(0.0, 1.0 - 1e-12)
    bet = np.minimum(bets, LARGEST_BET / (1.0 - expected))
    wealth = np.log1p(bet * (expected - x)).cumsum(axis=-1)
    return np.where(impossible, np.inf, wealth)


def _losses(losses: npt.ArrayLike, size: int | None) -> npt.NDArray[np.float64]:
    x = np.asarray(losses, dtype=np.float64)
    if x.ndim < 1 or x.shape[-1] < 1 or not ((x >= 0.0) & (x <= 1.0)).all():
        raise ValueError("losses must be in [0, 1], of at least one unit")
    if size is not None and size < x.shape[-1]:
        raise ValueError(f"a pool of {size} units cannot give {x.shape[-1]}")
    return x


def _check_open(name: str, value: npt.NDArray[np.float64]) -> None:
    if not ((value > 0.0) & (value < 1.0)).all():
        raise ValueError(f"{name} must be in (0, 1), not {value}")
