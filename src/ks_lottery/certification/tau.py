"""Tau: three bounds on the KS distance of the rows that a small model leaves as they were, and what each of them verifies.

Must never read a model or a text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ks_lottery.config.choices import TAUS
from ks_lottery.stats.intervals import tau_empirical, tau_exact, tau_table
from ks_lottery.stats.null import log_pvalues

if TYPE_CHECKING:
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
    if kind not in TAUS or (alpha is None and (kind != "empirical" or rows is None)):
        raise ValueError(f"tau {kind} needs alpha, and is one of {', '.join(TAUS)}")
    if kind == "empirical":
        unselected = np.ones(len(scan), dtype=bool)
        unselected[scan.passing(alpha or 0.0) if rows is None else rows] = False
        return tau_empirical(scan.statistics[unselected])
    assert alpha is not None  # noqa: S101 (checked above)
    if alpha in {0, 1}:  # c(0) is infinite: nothing is certified; at 1 every row is selected: nothing is left to bound
        return 1.0 - alpha
    return {"exact": tau_exact, "table": tau_table}[kind](alpha, scan.width)


def full_verification(scan: Scan, smallest: float) -> dict[str, dict[str, float | int | None]]:
    """Say what verifies every position: the alpha from which on tau(alpha) < `smallest` (section 4.2), by kind of tau.

    Returns
    -------
    dict
        By kind: ``above``, tau is small enough at each alpha above this one, None where only alpha = 1 is enough; and
        ``tickets``, how many rows are then selected at the least.

    Notes
    -----
    ``empirical``: every row with D >= smallest must be selected, so alpha lies above the p of the least of them. ``exact``: the
    largest k/d below `smallest` must have p below alpha. ``table``: alpha = 2 exp(-d smallest^2), from c(alpha) sqrt(2/d).
    """
    every: dict[str, float | int | None] = {"above": None, "tickets": len(scan)}
    if smallest <= 0:
        return dict.fromkeys(TAUS, every)
    logs, d = log_pvalues(scan.width), scan.width
    above = scan.counts >= smallest * d  # D >= smallest, in counts
    least = int(scan.counts[above].min()) if above.any() else None
    below = int(np.ceil(smallest * d)) - 1  # largest k with k / d < smallest
    alphas = {
        "empirical": 0.0 if least is None else float(np.exp(logs[least])),
        "exact": float(np.exp(logs[min(below, d)])) if below >= 1 else 1.0,
        "table": float(min(1.0, 2 * np.exp(-d * smallest**2))),
    }
    result: dict[str, dict[str, float | int | None]] = {}
    for kind, alpha in alphas.items():
        if alpha >= 1:
            result[kind] = every
        else:
            tickets = int(above.sum()) if kind == "empirical" else len(scan.passing(np.nextafter(alpha, 1.0)))
            result[kind] = {"above": alpha, "tickets": tickets}
    return result
