"""The exact null distribution of the KS count of two samples of one size: log p, and the critical count of an alpha."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

TIE = 1e-12
"""Relative difference below which a p-value counts as equal to alpha, and so as not below it."""


@lru_cache(maxsize=8)
def log_pvalues(d: int) -> npt.NDArray[np.float64]:
    """Return log P(K >= k) for k = 0 ... d under the exact null of two samples of size d without ties.

    The reflection principle gives (Gnedenko & Korolyuk 1951; Hodges, Ark. Mat. 3, 1958)::

        P(K >= k) = 2 sum_{j >= 1} (-1)^(j-1) C(2d, d - jk) / C(2d, d)        for 1 <= k <= d

    Here L[m] = log(C(2d, d-m) / C(2d, d)) is summed once, and the sum is taken relative to its first term, so
    that log p stays right where p itself underflows.

    Parameters
    ----------
    d
        Size of each sample, at least 1.

    Returns
    -------
    numpy.ndarray
        Natural logarithms, float64, shape (d + 1,), non-increasing, at most 0; exactly 0 at k = 0 and 1. The
        array is cached and read-only. The relative error of p is below 1e-11 down to p = 1e-300.

    Raises
    ------
    ValueError
        If d is less than 1.

    Notes
    -----
    O(d + sqrt(d) log d) time and O(d) memory: terms below exp(-60) of the first are left out.

    Examples
    --------
    >>> import numpy as np
    >>> np.exp(log_pvalues(2)).round(6).tolist()
    [1.0, 1.0, 0.333333]
    """
    if d < 1:
        raise ValueError(f"a sample needs at least one value, not d = {d}")
    L = _log_binomial_ratios(d)
    # L[m] is close to -m^2 / d, so term j is exp(-(j^2 - 1) k^2 / d) of the first, which is below exp(-60)
    # where jk > sqrt(80 d).
    reach = min(d, math.isqrt(80 * d) + 10)
    rest = np.zeros(d + 1)
    for j in range(2, reach + 1):
        k = reach // j
        term = np.exp(L[j : j * k + 1 : j] - L[1 : k + 1])
        rest[1 : k + 1] += term if j % 2 else -term
    log_p = math.log(2) + L + np.log1p(rest)
    log_p[:2] = 0.0
    log_p = np.minimum.accumulate(log_p)  # near p = 1 rounding alone may rise above 0 or above its neighbour
    log_p.flags.writeable = False
    return log_p


def pvalues(d: int) -> npt.NDArray[np.float64]:
    """Return P(K >= k) for k = 0 ... d: the exponential of `log_pvalues`.

    Parameters
    ----------
    d
        Size of each sample, at least 1.

    Returns
    -------
    numpy.ndarray
        float64 in [0, 1], shape (d + 1,); 0 where p underflows.

    Raises
    ------
    ValueError
        If d is less than 1.
    """
    return np.exp(log_pvalues(d))


def critical_count(d: int, alpha: float) -> int:
    """Return the smallest count k whose exact p is below alpha, so that ``k >= critical_count`` selects.

    Parameters
    ----------
    d
        Size of each sample, at least 1.
    alpha
        A probability. 0 selects nothing; 1 selects every row, by definition also one that did not move.

    Returns
    -------
    int
        From 0 (alpha = 1) to d + 1 (no count is enough).

    Raises
    ------
    ValueError
        If alpha is not in [0, 1] or d is less than 1.

    Notes
    -----
    A p-value within 1e-12 relative of alpha counts as equal to it, and is not below: alpha = 0.1 is meant as
    one tenth, and p = 1/10 exists (d = 3, k = 3), while neither is a binary fraction. O(d) beside the cached
    table.

    Examples
    --------
    >>> critical_count(576, 0.05), critical_count(3, 0.1), critical_count(3, 0.2), critical_count(3, 1.0)
    (47, 4, 3, 0)
    """
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha must be a probability in [0, 1], not {alpha}")
    log_p = log_pvalues(d)
    if alpha == 1.0:
        return 0
    if alpha == 0.0:
        return d + 1
    # -log p ascends; the first entry above the threshold is the first p below alpha.
    return int(np.searchsorted(-log_p, TIE - math.log(alpha), side="right"))


def _log_binomial_ratios(d: int) -> npt.NDArray[np.float64]:
    """Return L[m] = log(C(2d, d-m) / C(2d, d)), m = 0 ... d, as a compensated sum of log((d-i+1) / (d+i))."""
    i = np.arange(1, d + 1, dtype=np.float64)
    steps = np.log1p((1.0 - 2.0 * i) / (d + i))
    total = np.concatenate([[0.0], np.cumsum(steps)])
    # What each addition of the running sum rounded away (Knuth's two-sum), summed in turn.
    before, after = total[:-1], total[1:]
    taken = after - before
    lost = (before - (after - taken)) + (steps - taken)
    total[1:] += np.cumsum(lost)
    return total
