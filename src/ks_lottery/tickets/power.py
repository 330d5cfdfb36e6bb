"""Which units of a scan pass at a significance level, and whether the test could see anything at all."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_lottery.errors import UserError
from ks_lottery.stats.multiplicity import adjust
from ks_lottery.stats.null import critical_count
from ks_lottery.tickets.scan_table import UNCOMPARED

if TYPE_CHECKING:
    import numpy.typing as npt

    from ks_lottery.tickets.scan import Scan

POWER_ALPHAS = (0.05, 0.5, 0.9)
"""Significance levels that a summary has, beside the one that was asked for."""


def check_alpha(alpha: float, name: str = "alpha") -> None:
    """Refuse a significance level that is no probability.

    Parameters
    ----------
    name
        What the caller calls it.

    Raises
    ------
    UserError
        When alpha is not in [0, 1].
    """
    if not 0 <= alpha <= 1:
        raise UserError(f"{name} is {alpha}, but must be from 0 to 1")


def passing(scan: Scan, alpha: float, correction: str = "none") -> npt.NDArray[np.int64]:
    """Return the units with p < alpha, in the order of `by_pvalue`; see `Scan.passing`."""
    check_alpha(alpha)
    if correction == "none":
        critical = np.concatenate([np.full(part.count, critical_count(part.width, alpha)) for part in scan.parts])
        units = np.flatnonzero(scan.counts >= critical)
    else:
        units = np.flatnonzero(adjust(scan.log_pvalues, correction) < math.log(alpha) if alpha > 0 else [])
    return by_pvalue(scan, units)


def by_pvalue(scan: Scan, units: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return units by ascending p; ties by descending distance moved, then by ascending unit."""
    return units[np.lexsort((units, -scan.distance[units], scan.log_pvalues[units]))]


def power(scan: Scan, alpha: float, correction: str = "none") -> dict[str, Any]:
    """Say whether the test could see anything: the critical D against the largest there is.

    Returns
    -------
    dict
        ``alpha``, ``rows_moved``, ``rows_passing``, ``critical_statistic`` (smallest D with p < alpha, at the width of the unit
        with the smallest p), ``largest_statistic``, ``largest_spread`` (largest mean move of a unit over its standard
        deviation, constant units apart), ``measured_shortfall``, whether the scan measured by which factor its moves fall short
        at this alpha without correction, and ``needed``, that factor: with moves so many times as large, one unit of this pair
        of models would pass. It is no forecast for another learning rate or number of steps. None where it was not measured, or
        no factor up to `ks_lottery.tickets.scan_sections.LARGEST` is enough.

    Raises
    ------
    UserError
        When alpha is out of range.
    """
    check_alpha(alpha)
    first = int(np.argmin(scan.log_pvalues))
    width = scan.part_of(first).width
    critical = min(1.0, critical_count(width, alpha) / width)
    measured = scan.settings.get("shortfall", {})
    known = correction == "none" and measured.get("alpha") == alpha
    return {
        "alpha": alpha,
        "rows_moved": int(np.count_nonzero(scan.moved)),
        "rows_passing": len(passing(scan, alpha, correction)),
        "critical_statistic": critical,
        "largest_statistic": float(scan.statistics[first]),
        "largest_spread": float(scan.spread[np.isfinite(scan.spread)].max(initial=0.0)),
        "measured_shortfall": known,
        "needed": measured["factor"] if known else None,
    }


def summary(scan: Scan, alpha: float, correction: str = "none") -> dict[str, Any]:
    """Return what was compared and what came out, in plain values.

    ``levels`` has the critical D, at the width of the unit with the smallest p, and how many units pass, at `alpha` and at each
    of `POWER_ALPHAS`.
    """
    levels = [power(scan, level, correction) for level in dict.fromkeys([alpha, *POWER_ALPHAS])]
    return {
        "units": len(scan),
        "tensors": len(scan.parts),
        "compared_as": sorted({part.compared_as for part in scan.parts}),
        "removed": {part.tensor: part.removed for part in scan.parts if part.removed},
        "added": {part.tensor: part.added for part in scan.parts if part.added},
        "matched": scan.settings.get("matched", {}),
        **{name: scan.settings.get(name, []) for name in UNCOMPARED},
        "compared": scan.settings.get("units", "embedding"),
        "pattern": scan.settings.get("tensors"),
        "elsewhere": scan.settings.get("elsewhere"),
        "correction": correction,
        **levels[0],
        "levels": [{name: level[name] for name in ("alpha", "critical_statistic", "rows_passing")} for level in levels],
    }
