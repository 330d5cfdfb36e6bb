"""Bounds: tau(alpha) on the distance of rows that are not selected, and intervals for rates."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ks_lottery.stats.null import critical_count

if TYPE_CHECKING:
    import numpy.typing as npt

_DRAWS = 1 << 20
"""Sentences drawn at a time by the bootstrap; 8 MiB of indices."""


def tau_table(alpha: float, d: int) -> float:
    """Return the asymptotic critical distance c(alpha) sqrt(2/d), c(alpha) = sqrt(-ln(alpha/2) / 2).

    The tau of theorem 1 of KS-Lottery.

    Parameters
    ----------
    alpha
        A probability; at 0 the bound is infinite. At 1 it stays positive, as the formula has it.
    d
        Size of each sample, at least 1.

    Returns
    -------
    float
        A distance, at least 0; it may exceed 1, the largest D, where d is small.

    Raises
    ------
    ValueError
        If alpha is not in [0, 1] or d is less than 1.

    Examples
    --------
    >>> round(tau_table(0.05, 4096), 4)
    0.03
    """
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha must be a probability in [0, 1], not {alpha}")
    if d < 1:
        raise ValueError(f"a sample needs at least one value, not d = {d}")
    if alpha == 0.0:
        return math.inf
    return math.sqrt((math.log(2.0) - math.log(alpha)) / 2.0) * math.sqrt(2.0 / d)


def tau_exact(alpha: float, d: int) -> float:
    """Return the exact critical distance: the smallest D = k/d with exact p below alpha, at most 1.

    Every row that is not selected at alpha has D < tau, except at the edges: where no count is enough
    (alpha = 0, or too small for d) tau is 1 and D may equal it; at alpha = 1 every row is selected and tau
    is 0.

    Parameters
    ----------
    alpha
        A probability.
    d
        Size of each sample, at least 1.

    Returns
    -------
    float
        A distance in [0, 1].

    Raises
    ------
    ValueError
        If alpha is not in [0, 1] or d is less than 1.

    Examples
    --------
    >>> tau_exact(0.05, 576) == 47 / 576
    True
    """
    return min(1.0, critical_count(d, alpha) / d)


def tau_empirical(statistics_of_unselected: npt.ArrayLike) -> float:
    """Return the largest distance among the rows that were not selected.

    Parameters
    ----------
    statistics_of_unselected
        Their D, each in [0, 1], any shape.

    Returns
    -------
    float
        The largest; 0.0 where every row was selected or no other row moved.

    Raises
    ------
    ValueError
        If a value is not in [0, 1].

    Examples
    --------
    >>> tau_empirical([0.0, 0.02, 0.01]), tau_empirical([])
    (0.02, 0.0)
    """
    distances = np.asarray(statistics_of_unselected, dtype=np.float64)
    if not np.all((distances >= 0.0) & (distances <= 1.0)):
        raise ValueError("a KS distance must be in [0, 1]")
    return float(distances.max(initial=0.0))


def bootstrap_interval(
    numerators: npt.ArrayLike,
    denominators: npt.ArrayLike,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Return a percentile bootstrap interval of sum(numerators) / sum(denominators), resampling sentences.

    The percentile interval of Efron & Tibshirani (1993, chapter 13). A sentence is drawn whole, because what it
    holds is dependent.

    Parameters
    ----------
    numerators
        What each sentence adds to the numerator, shape (n,), finite.
    denominators
        What each adds to the denominator, shape (n,), finite, not negative. A sentence that adds 0 has no
        say in the ratio and is left out.
    confidence
        Coverage aimed at, in (0, 1).
    resamples
        Number of resamples, at least 1.
    seed
        Seed of the PCG64 generator; the same seed gives the same interval.

    Returns
    -------
    tuple of float
        Lower and upper end.

    Raises
    ------
    ValueError
        If the shapes differ or are not (n,), a value is not as above, no sentence is left, or a sentence
        adds to the numerator and not to the denominator.

    Notes
    -----
    O(n * resamples) time, memory bounded by about a million draws at a time.

    Examples
    --------
    >>> bootstrap_interval([1.0, 1.0], [2.0, 2.0])
    (0.5, 0.5)
    """
    _check_confidence(confidence)
    ratios = bootstrap_ratios(numerators, denominators, resamples, seed)
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(ratios, [tail, 1.0 - tail])
    return float(low), float(high)


def bootstrap_ratios(
    numerators: npt.ArrayLike, denominators: npt.ArrayLike, resamples: int = 2000, seed: int = 0
) -> npt.NDArray[np.float64]:
    """Return the ratio of `bootstrap_interval` in each resample of sentences, shape (resamples,)."""
    above, below = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    if above.ndim != 1 or above.shape != below.shape:
        raise ValueError(f"both must have one shape (n,), but they have {above.shape} and {below.shape}")
    if not (np.isfinite(above).all() and np.isfinite(below).all() and (below >= 0.0).all()):
        raise ValueError("all values must be finite, and no denominator negative")
    counted = below > 0.0
    if above[~counted].any():
        raise ValueError("a sentence whose denominator is 0 must have the numerator 0")
    if resamples < 1:
        raise ValueError(f"at least one resample is needed, not {resamples}")
    above, below = above[counted], below[counted]
    n = len(above)
    if n == 0:
        raise ValueError("no sentence has a denominator above 0")
    generator = np.random.Generator(np.random.PCG64(seed))
    ratios = np.empty(resamples)
    step = max(1, _DRAWS // n)
    for start in range(0, resamples, step):
        drawn = generator.integers(0, n, size=(min(step, resamples - start), n))
        ratios[start : start + step] = above[drawn].sum(axis=1) / below[drawn].sum(axis=1)
    return ratios


def ratio_interval(
    numerators: npt.ArrayLike,
    denominators: npt.ArrayLike,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Return a percentile bootstrap interval of sum(numerators) / sum(denominators), both of any sign, resampling sentences.

    For the share of one paired difference in another: both sums come from the same draw of sentences, which is that of
    `bootstrap_interval` with the same seed.

    Parameters
    ----------
    numerators, denominators
        What each sentence adds, shape (n,), finite.
    confidence, resamples, seed
        As for `bootstrap_interval`.

    Returns
    -------
    tuple of float
        Lower and upper end. A resample whose denominator is 0 has no ratio and is left out, so that the interval says little
        unless that of the denominator excludes 0.

    Raises
    ------
    ValueError
        If the shapes differ or are not (n,) with n above 0, a value is not as above, or every denominator is 0.

    Examples
    --------
    >>> ratio_interval([1.0, -2.0], [2.0, -4.0])
    (0.5, 0.5)
    """
    above, below = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    if above.ndim != 1 or above.shape != below.shape or not len(above):
        raise ValueError(f"both must have one shape (n,), n above 0, but they have {above.shape} and {below.shape}")
    if not (np.isfinite(above).all() and np.isfinite(below).all()):
        raise ValueError("all values must be finite")
    _check_confidence(confidence)
    if resamples < 1:
        raise ValueError(f"at least one resample is needed, not {resamples}")
    n = len(above)
    generator = np.random.Generator(np.random.PCG64(seed))
    tops, bottoms = np.empty(resamples), np.empty(resamples)
    step = max(1, _DRAWS // n)
    for start in range(0, resamples, step):
        drawn = generator.integers(0, n, size=(min(step, resamples - start), n))
        tops[start : start + step], bottoms[start : start + step] = above[drawn].sum(axis=1), below[drawn].sum(axis=1)
    defined = bottoms != 0.0
    if not defined.any():
        raise ValueError("every denominator is 0")
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(tops[defined] / bottoms[defined], [tail, 1.0 - tail])
    return float(low), float(high)


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the exact two-sided interval of a probability from independent trials (Clopper & Pearson 1934).

    Parameters
    ----------
    successes
        From 0 to `trials`.
    trials
        At least 0; where it is 0 nothing is known and the interval is (0, 1).
    confidence
        Coverage guaranteed, in (0, 1); each tail has half of the rest.

    Returns
    -------
    tuple of float
        Lower and upper end, in [0, 1].

    Raises
    ------
    ValueError
        If the numbers are not as above.

    Examples
    --------
    >>> low, high = clopper_pearson(0, 10)
    >>> low, round(high, 4)
    (0.0, 0.3085)
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"successes must be from 0 to the number of trials, not {successes} of {trials}")
    _check_confidence(confidence)
    if trials == 0:
        return 0.0, 1.0
    from scipy.stats import binomtest

    interval = binomtest(successes, trials).proportion_ci(confidence_level=confidence, method="exact")
    return float(interval.low), float(interval.high)


def _check_confidence(confidence: float) -> None:
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"the confidence must be in (0, 1), not {confidence}")
