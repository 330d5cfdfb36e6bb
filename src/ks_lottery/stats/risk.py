"""Finite-sample bounds of a mean loss over independently drawn units, and the tests that choose by them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

_ROUNDING = 1e-9
"""A sum this near to a whole number is taken for it. Between whole numbers Bentkus' bound is log-linear, and the ceiling
below is its upper end, so that what a rounding error of the sum could hide is a factor of 1 + 1e-9 or so."""

_HALVINGS = 44
"""Of [0, 1] by the bisection: the bound comes out within 1e-13."""


def binomial_pvalue(failures: npt.ArrayLike, n: npt.ArrayLike, epsilon: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return P(Bin(n, epsilon) <= failures), the p-value of "the rate of failures exceeds epsilon".

    Parameters
    ----------
    failures
        Units that failed, whole numbers from 0 to `n`, any shape.
    n
        Independent units, at least 1.
    epsilon
        Rate in question, in (0, 1).

    Returns
    -------
    numpy.ndarray
        p in (0, 1], of the common shape of the three; the exact one-sided test, whose inverse is
        `clopper_pearson_upper`.

    Raises
    ------
    ValueError
        If a value is not as above.

    Examples
    --------
    >>> bool(binomial_pvalue(0, 59, 0.05) <= 0.05 < binomial_pvalue(0, 58, 0.05))
    True
    """
    k, size, rate = _checked(failures, n, epsilon)
    if (k != np.floor(k)).any():
        raise ValueError("the number of failures must be whole")
    return _binomial_tail(k, size, rate)


def hoeffding_bentkus_pvalue(
    sum_loss: npt.ArrayLike, n: npt.ArrayLike, epsilon: npt.ArrayLike
) -> npt.NDArray[np.float64]:
    """Return the Hoeffding-Bentkus p-value of "the mean loss exceeds epsilon", for losses in [0, 1].

    min(exp(-n h1(min(r, epsilon), epsilon)), e P(Bin(n, epsilon) <= ceil(n r)), 1) with r the observed mean and
    h1(a, b) = a ln(a/b) + (1 - a) ln((1 - a) / (1 - b)): Hoeffding (1963) and Bentkus (2004), joined in Bates,
    Angelopoulos, Lei, Malik & Jordan (2021) and Angelopoulos, Bates, Candes, Jordan & Lei, "Learn then Test" (2021).

    Parameters
    ----------
    sum_loss
        Sum of the n losses, from 0 to `n`, any shape. The sum, since n times a rounded mean may lie just above a whole
        number, and its ceiling one too high.
    n
        Units drawn, at least 1: independent, or without replacement from a finite pool (see `certification.guarantee`).
    epsilon
        Mean loss in question, in (0, 1).

    Returns
    -------
    numpy.ndarray
        p in (0, 1], of the common shape of the three; it falls as epsilon grows.

    Raises
    ------
    ValueError
        If a value is not as above.

    Examples
    --------
    >>> bool(hoeffding_bentkus_pvalue(0.0, 59, 0.05) <= 0.05 < hoeffding_bentkus_pvalue(0.0, 58, 0.05))
    True
    """
    return _hoeffding_bentkus(*_checked(sum_loss, n, epsilon))


def hoeffding_bentkus_upper(sum_loss: npt.ArrayLike, n: npt.ArrayLike, delta: float) -> npt.NDArray[np.float64]:
    """Return an upper bound of the mean loss at confidence 1 - delta: the smallest epsilon that is rejected at `delta`.

    Parameters
    ----------
    sum_loss, n
        As for `hoeffding_bentkus_pvalue`.
    delta
        Probability that the bound fails, in (0, 1).

    Returns
    -------
    numpy.ndarray
        Bounds in (0, 1], at least the observed mean. By bisection to 1e-13, and the end that is rejected is returned; 1
        where nothing below 1 is.

    Raises
    ------
    ValueError
        If a value is not as above.

    Examples
    --------
    >>> float(hoeffding_bentkus_upper(0.0, 59, 0.05).round(4)), float(hoeffding_bentkus_upper(2.5, 200, 0.05).round(4))
    (0.0495, 0.0422)
    """
    _check_delta(delta)
    total, size, low = _checked(sum_loss, n, None)
    low, high = np.zeros_like(low), np.ones_like(low)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        rejected = _hoeffding_bentkus(total, size, middle) <= delta
        low, high = np.where(rejected, low, middle), np.where(rejected, middle, high)
    return high


def clopper_pearson_upper(failures: npt.ArrayLike, n: npt.ArrayLike, delta: float) -> npt.NDArray[np.float64]:
    """Return the exact one-sided upper bound of a rate at confidence 1 - delta (Clopper & Pearson 1934).

    Parameters
    ----------
    failures, n
        As for `binomial_pvalue`.
    delta
        Probability that the bound fails, in (0, 1).

    Returns
    -------
    numpy.ndarray
        The epsilon at which `binomial_pvalue` is `delta`; 1 where every unit failed.

    Raises
    ------
    ValueError
        If a value is not as above.

    Examples
    --------
    >>> float(clopper_pearson_upper(0, 59, 0.05).round(4)), float(clopper_pearson_upper(3, 3, 0.05))
    (0.0495, 1.0)
    """
    from scipy.special import betainccinv

    _check_delta(delta)
    k, size, _ = _checked(failures, n, None)
    if (k != np.floor(k)).any():
        raise ValueError("the number of failures must be whole")
    return np.where(k < size, betainccinv(k + 1.0, np.maximum(size - k, 1.0), delta), 1.0)


def smallest_n(epsilon: float, delta: float) -> int:
    """Return how many units are needed to show a loss of at most epsilon, if none shows any loss.

    ceil(ln delta / ln(1 - epsilon)), the smallest n with (1 - epsilon)^n <= delta. Without any loss that power is the
    p-value of both `binomial_pvalue` and `hoeffding_bentkus_pvalue` (Bentkus' part is e times as large), so it holds
    for both.

    Raises
    ------
    ValueError
        If epsilon or delta is not in (0, 1).

    Examples
    --------
    >>> smallest_n(0.05, 0.05), smallest_n(0.5, 0.25)
    (59, 2)
    """
    _check_delta(delta)
    if not 0.0 < epsilon < 1.0:
        raise ValueError(f"epsilon must be in (0, 1), not {epsilon}")
    n = max(1, math.ceil(math.log(delta) / math.log1p(-epsilon)))
    # The quotient of two rounded logarithms may fall to the wrong side of a whole number; the p-values decide.
    if n > 1 and binomial_pvalue(0, n - 1, epsilon) <= delta:
        return n - 1
    return n if binomial_pvalue(0, n, epsilon) <= delta else n + 1


def fixed_sequence(pvalues: npt.ArrayLike, delta: float) -> npt.NDArray[np.intp]:
    """Return which hypotheses are rejected by fixed-sequence testing: all before the first whose p exceeds `delta`.

    The chance that a true hypothesis is among them is at most delta, however the p-values depend on each other: it needs
    the first true one in the order to be rejected (Bauer 1991; Learn then Test, section 2). The order must have been fixed
    without the data that the p-values come from.

    Parameters
    ----------
    pvalues
        In the order of testing, shape (m,), each in [0, 1].
    delta
        Level of each test and of all together, in (0, 1).

    Returns
    -------
    numpy.ndarray
        Indices 0, 1, ..., the first failure left out.

    Raises
    ------
    ValueError
        If a value is not as above.

    Examples
    --------
    >>> fixed_sequence([0.001, 0.04, 0.2, 0.001], 0.05).tolist()
    [0, 1]
    """
    _check_delta(delta)
    p = np.asarray(pvalues, dtype=np.float64)
    if p.ndim != 1 or not ((p >= 0.0) & (p <= 1.0)).all():
        raise ValueError("p-values must be of shape (m,) and in [0, 1]")
    return np.flatnonzero(np.logical_and.accumulate(p <= delta))


def _hoeffding_bentkus(
    total: npt.NDArray[np.float64], n: npt.NDArray[np.float64], epsilon: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    from scipy.special import xlog1py, xlogy

    whole = np.rint(total)
    total = np.where(np.abs(total - whole) <= _ROUNDING, whole, total)
    r = np.minimum(total / n, epsilon)
    h1 = xlogy(r, r / epsilon) + xlog1py(1.0 - r, (epsilon - r) / (1.0 - epsilon))
    # Without any loss Hoeffding's part is a power, and written as one so that it is the binomial's to the last bit.
    hoeffding = np.where(total == 0.0, (1.0 - epsilon) ** n, np.exp(-n * h1))
    bentkus = math.e * _binomial_tail(np.ceil(total), n, epsilon)
    return np.minimum(np.minimum(hoeffding, bentkus), 1.0)


def _binomial_tail(
    k: npt.NDArray[np.float64], n: npt.NDArray[np.float64], p: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    from scipy.special import betaincc

    tail = np.where(k < n, betaincc(k + 1.0, np.maximum(n - k, 1.0), p), 1.0)
    return np.where((k == 0.0) & (n > 0.0), (1.0 - p) ** n, tail)


def _checked(
    losses: npt.ArrayLike, n: npt.ArrayLike, epsilon: npt.ArrayLike | None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the three as arrays of one shape; epsilon 1/2 where none is asked for."""
    given = (losses, n, 0.5 if epsilon is None else epsilon)
    total, size, rate = cast(
        "tuple[npt.NDArray[np.float64], ...]", np.broadcast_arrays(*(np.asarray(x, dtype=np.float64) for x in given))
    )
    if not ((size >= 1.0) & (size == np.floor(size))).all():
        raise ValueError("the number of units must be a whole number, at least 1")
    # A sum of n losses of 1 may be above n by its rounding.
    if not ((total >= 0.0) & (total <= size * (1.0 + 1e-12))).all():
        raise ValueError("the sum of the losses must be from 0 to the number of units: each loss is in [0, 1]")
    if not ((rate > 0.0) & (rate < 1.0)).all():
        raise ValueError(f"epsilon must be in (0, 1), not {epsilon}")
    return np.minimum(total, size), size, rate


def _check_delta(delta: float) -> None:
    if not 0.0 < delta < 1.0:
        raise ValueError(f"delta must be in (0, 1), not {delta}")
