"""The two-sided two-sample Kolmogorov-Smirnov test of two samples of one size: D and p as SciPy has them, for many rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ks_lottery.stats.ks import ks_counts
from ks_lottery.stats.null import log_pvalues

if TYPE_CHECKING:
    import numpy.typing as npt

EXACT_LIMIT = 10_000
"""Largest sample size at which ``method="auto"`` is exact; SciPy's own limit."""


@dataclass(frozen=True, eq=False, repr=False)
class KSResult:
    """Outcome of `ks_test`, one entry a row; NumPy scalars when one row was tested.

    Parameters
    ----------
    count
        Integers k = max over x of ``|#{a_i <= x} - #{b_i <= x}|``, from 0 to d.
    statistic
        The KS distance D = k / d, float64 in [0, 1].
    pvalue
        Two-sided p, float64 in [0, 1]; 0 where it underflows.
    log_pvalue
        Natural logarithm of p. Where p underflows it stays right by the exact method and is -inf by the
        other.
    """

    count: npt.NDArray[np.int64] | np.int64
    statistic: npt.NDArray[np.float64] | np.float64
    pvalue: npt.NDArray[np.float64] | np.float64
    log_pvalue: npt.NDArray[np.float64] | np.float64

    def __repr__(self) -> str:
        values = {"count": self.count, "statistic": self.statistic, "pvalue": self.pvalue}
        shown = [f"{k}={f'{v.dtype}{list(v.shape)}' if np.ndim(v) else f'{v:g}'}" for k, v in values.items()]
        return f"KSResult({', '.join(shown)})"


def ks_test(a: Any, b: Any, method: Literal["auto", "exact", "asymp"] = "auto") -> KSResult:
    """Test each pair of rows with the two-sided two-sample Kolmogorov-Smirnov test.

    The same D and p as `scipy.stats.ks_2samp` gives for two samples of one size, for all rows in one call.

    Parameters
    ----------
    a, b
        Samples of shape (..., d), as for `ks_counts`.
    method
        ``exact``: the exact null distribution, `ks_lottery.stats.null.log_pvalues`. ``asymp``: the one-sample
        distribution `scipy.stats.kstwo` at n = d / 2, rounded to the nearest integer and halves to even.
        ``auto``: exact up to d = 10,000 and asymptotic above.

    Returns
    -------
    KSResult
        Arrays of shape (...).

    Raises
    ------
    TypeError, ValueError
        As `ks_counts` does, and for an unknown method, and for the asymptotic one at d = 1.

    Notes
    -----
    Where ties exist p is that of the test without ties, which is conservative; SciPy does the same. One
    difference: where p is 1 up to rounding (k = 1, say) SciPy's exact sum may exceed 1 by an ulp, and SciPy
    then warns and answers by the asymptotic formula; here the answer stays exact. Beyond the counts, O(d)
    for the exact method and one evaluation a distinct count for the asymptotic one.

    Examples
    --------
    >>> import numpy as np
    >>> result = ks_test(np.arange(5.0), np.arange(5.0) + 3)
    >>> int(result.count), float(result.statistic), round(float(result.pvalue), 6)
    (3, 0.6, 0.357143)
    """
    if method not in {"auto", "exact", "asymp"}:
        raise ValueError(f'the method must be "auto", "exact" or "asymp", not {method!r}')
    count = ks_counts(a, b)
    d = int(a.shape[-1] if hasattr(a, "shape") else np.shape(a)[-1])
    exact = method == "exact" or (method == "auto" and d <= EXACT_LIMIT)
    log_p, p = _exact(count, d) if exact else _asymptotic(count, d)
    return KSResult(count[()], (count / d)[()], p[()], log_p[()])


_Pair = tuple["npt.NDArray[np.float64]", "npt.NDArray[np.float64]"]


def _exact(count: npt.NDArray[np.int64], d: int) -> _Pair:
    log_p = np.asarray(log_pvalues(d)[count])
    return log_p, np.asarray(np.exp(log_p))


def _asymptotic(count: npt.NDArray[np.int64], d: int) -> _Pair:
    if d == 1:  # round(1/2) = 0 leaves no sample; SciPy answers NaN
        raise ValueError("the asymptotic method needs samples of at least two values")
    from scipy.stats import kstwo

    distinct, place = np.unique(count, return_inverse=True)
    p = np.clip(np.asarray(kstwo.sf(distinct / d, np.round(d / 2)), dtype=np.float64), 0.0, 1.0)
    with np.errstate(divide="ignore"):
        log_p = np.log(p)
    place = place.reshape(count.shape)
    return np.asarray(log_p[place]), np.asarray(p[place])
