"""Tau: three bounds on the KS distance of the rows that a small model leaves as they were, and what each of them verifies.

Must never read a model or a text.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ks_lottery.config.choices import TAUS
from ks_lottery.stats.intervals import tau_empirical, tau_exact, tau_table
from ks_lottery.stats.null import TIE, critical_count, log_pvalues

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from ks_lottery.tickets.scan import Scan


def tau_of(kind: str, scan: Scan, *, alpha: float | None = None, rows: npt.NDArray[np.int64] | None = None) -> float:
    """Return tau, the bound on the KS distance of every row that is not selected.

    Parameters
    ----------
    kind
        ``empirical``: the largest D among the rows not selected. ``exact``: the smallest D with exact p below alpha.
        ``table``: c(alpha) sqrt(2/d), as in theorem 1.
    alpha
        Significance level of the selection.
    rows
        The rows selected, for ``empirical``; without them those with p < alpha.

    Raises
    ------
    ValueError
        When `kind` is not known, or what it needs is missing.
    """
    if kind not in TAUS:
        raise ValueError(f"tau {kind} is not known; there is {', '.join(TAUS)}")
    if kind != "empirical" or rows is None:
        if alpha is None:
            raise ValueError(f"tau {kind} needs alpha")
        if (
            kind != "empirical"
        ):  # c(0) is infinite: nothing is certified; at 1 every row is selected: nothing is left to bound
            return 1.0 - alpha if alpha in {0, 1} else {"exact": tau_exact, "table": tau_table}[kind](alpha, scan.width)
        rows = scan.passing(alpha)
    unselected = np.ones(len(scan), dtype=bool)
    unselected[rows] = False
    return tau_empirical(scan.statistics[unselected])


def full_verification(scan: Scan, smallest: float) -> dict[str, dict[str, float | int | None]]:
    """Say what verifies every position: the alpha from which on tau(alpha) < `smallest` (section 4.2), by kind of tau.

    Returns
    -------
    dict
        By kind: ``above``, tau is small enough at each alpha above this one, None where only alpha = 1 is enough; ``count``,
        the largest critical count that is small enough, so that rows of this count and more are selected; and ``tickets``, how
        many rows that is.

    Notes
    -----
    A count k and more is selected, and tau is compared as the certificate compares it, k / d in float64; so the answer is a
    whole number, and no tolerance has a part in it. ``empirical``: every row with D >= smallest must be selected. ``exact``:
    the critical count is the largest k with k / d < smallest. ``table``: that of the least alpha with tau below `smallest`,
    2 exp(-d smallest^2). Counts that no alpha below 1 selects need alpha = 1, which selects every row.
    """
    every: dict[str, float | int | None] = {"above": None, "count": 0, "tickets": len(scan)}
    if smallest <= 0:
        return dict.fromkeys(TAUS, every)
    d, almost = scan.width, float(np.nextafter(1.0, 0.0))
    logs = log_pvalues(d) + TIE  # an alpha selects a count when its logarithm is above this: see `critical_count`
    below = int(np.searchsorted(np.arange(d + 1) / d, smallest, side="left")) - 1  # largest k with k / d < smallest
    table = _rounded_up(2 * math.exp(-d * smallest**2), lambda alpha: tau_table(alpha, d) < smallest)
    counts = {
        "empirical": int(scan.counts[scan.counts > below].min(initial=d + 1)),
        "exact": below,
        "table": int(np.searchsorted(-logs, d * smallest**2 - math.log(2), side="left")),
    }
    result: dict[str, dict[str, float | int | None]] = {}
    for kind, count in counts.items():
        if count < critical_count(d, almost) or (kind == "table" and table >= almost):
            result[kind] = every
            continue
        alpha = table
        if kind != "table":
            start = 0.0 if count > d else math.exp(logs[count])
            alpha = _rounded_up(start, lambda alpha, count=count: critical_count(d, alpha) <= count)
        result[kind] = {"above": alpha, "count": count, "tickets": int((scan.counts >= count).sum())}
    return result


def _rounded_up(alpha: float, enough: Callable[[float], bool]) -> float:
    """Return the first of the floats from `alpha` on, up to 1, above which the next is enough: what a rounding error took."""
    while alpha < 1 and not enough(math.nextafter(alpha, 1.0)):
        alpha = math.nextafter(alpha, 1.0)
    return min(alpha, 1.0)
