"""Which bound a guarantee or a choice rests on, by the kind of loss and the pool, and that bound of given losses.

The losses have no say in which one: it is fixed by settings and by what was drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from ks_lottery.stats.betting import betting_pvalue, betting_upper
from ks_lottery.stats.finite import fewest, hypergeometric_pvalue, hypergeometric_upper, units_needed
from ks_lottery.stats.risk import (
    binomial_pvalue,
    clopper_pearson_upper,
    hoeffding_bentkus_pvalue,
    hoeffding_bentkus_upper,
    smallest_n,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    from ks_lottery.certification.pool import Pool
    from ks_lottery.certification.units import Kind

Bounding = Literal["finite", "independent"]
"""Key of `ks_lottery.config.choices.BOUNDS`."""

Bounded = Literal["any", "share", "paired"]
"""Loss of a unit: those of `Kind`, in [0, 1]; or ``paired``, the share of one model less that of another, in [-1, 1]."""

FINITE: dict[Kind, str] = {"any": "hypergeometric", "share": "betting without replacement"}
"""Bounds that know the size of the pool."""

INDEPENDENT: dict[Kind, str] = {"any": "Clopper-Pearson", "share": "Hoeffding-Bentkus"}
"""Bounds that do not."""

MOST_UNITS = 10_000_000
"""Units that are asked for at most, where the size of a pool is not known."""

LARGEST_DELTA = 0.25
"""Clopper-Pearson asked for with a larger delta is computed with this one: see `guarantee`."""


def method_of(kind: Bounded, pool: Pool, bounding: Bounding = "finite") -> str:
    """Return the name of the bound of the mean of a kind of loss in a pool; of paired losses it is that of shares.

    The size must be known, as the number of units that have a position to count. Where documents were drawn, yes/no is that of
    one sentence of each, drawn too: its failures are not hypergeometric, and Clopper-Pearson holds.
    """
    unknown = pool.counted is None or (kind == "any" and pool.unit == "document")
    of: Kind = "any" if kind == "any" else "share"
    return INDEPENDENT[of] if bounding == "independent" or unknown else FINITE[of]


def upper_loss(
    losses: npt.NDArray[np.float64], kind: Bounded, pool: Pool, delta: float, bounding: Bounding = "finite"
) -> float:
    """Return the upper bound of the mean loss of a pool that fails with probability at most delta.

    Parameters
    ----------
    losses
        Of the units in the order of the draw, shape (n,), in [0, 1]; 0 or 1 for ``any``, and in [-1, 1] for ``paired``: then
        (1 + loss) / 2, which is in [0, 1], is bounded as a share.
    """
    if kind == "paired":
        return 2.0 * upper_loss((1.0 + losses) / 2.0, "share", pool, delta, bounding) - 1.0
    method, total, n = method_of(kind, pool, bounding), losses.sum(), len(losses)
    if method == FINITE["any"]:
        return float(hypergeometric_upper(total, n, _size(pool, n), delta))
    if method == FINITE["share"]:
        return float(betting_upper(losses, _size(pool, n), delta))
    if kind == "share":
        return float(hoeffding_bentkus_upper(total, n, delta))
    return 1.0 if nothing_to_claim(total, n) else float(clopper_pearson_upper(total, n, min(delta, LARGEST_DELTA)))


def loss_pvalues(
    losses: npt.NDArray[np.float64],
    kind: Bounded,
    pool: Pool,
    epsilon: float,
    delta: float,
    bounding: Bounding = "finite",
) -> npt.NDArray[np.float64]:
    """Return the p-value of "the mean loss of the pool exceeds epsilon" for each of several models.

    Parameters
    ----------
    losses
        Shape (m, n): of m models, of the units in the order of the draw.
    delta
        Level of the tests, which the bets are tuned to.
    """
    if kind == "paired":
        return loss_pvalues((1.0 + losses) / 2.0, "share", pool, (1.0 + epsilon) / 2.0, delta, bounding)
    method, total, n = method_of(kind, pool, bounding), losses.sum(axis=-1), losses.shape[-1]
    if method == FINITE["any"]:
        return hypergeometric_pvalue(total, n, _size(pool, n), epsilon)
    if method == FINITE["share"]:
        return betting_pvalue(losses, _size(pool, n), np.full(len(losses), epsilon), delta)
    if kind == "share":
        return hoeffding_bentkus_pvalue(total, n, epsilon)
    return np.where(nothing_to_claim(total, n), 1.0, binomial_pvalue(total, n, epsilon))


def units_to_show(epsilon: float, delta: float, kind: Bounded, pool: Pool, bounding: Bounding = "finite") -> int:
    """Return how many units must be drawn to show a loss of at most epsilon, if none of them shows any loss."""
    method = method_of(kind, pool, bounding)
    if kind == "paired":
        if method in FINITE.values() and pool.counted is not None:
            most = pool.counted
            nothing = np.zeros((1, most))
            return (
                fewest(lambda n: bool(loss_pvalues(nothing[:, :n], kind, pool, epsilon, delta)[0] <= delta), most)
                or most
            )
        rate = (1.0 + epsilon) / 2.0
        return fewest(lambda n: bool(hoeffding_bentkus_pvalue(n / 2.0, n, rate) <= delta), MOST_UNITS) or MOST_UNITS
    if method in FINITE.values() and pool.counted is not None:
        needed = units_needed(pool.counted, epsilon, delta, any_loss=kind == "any")
        return pool.counted if needed is None else needed
    return smallest_n(epsilon, level_of(delta, kind, pool, bounding))


def level_of(delta: float, kind: Bounded, pool: Pool, bounding: Bounding = "finite") -> float:
    """Return the level that p-values are compared with: delta, or less where the bound holds for small ones alone."""
    return min(delta, LARGEST_DELTA) if method_of(kind, pool, bounding) == INDEPENDENT["any"] else delta


def nothing_to_claim(failures: npt.ArrayLike, n: int) -> npt.NDArray[np.bool_]:
    """Say whether so many units failed that the binomial bound need not hold without replacement: see `guarantee`."""
    return (np.asarray(failures) >= n - 1) & (n > 1)


def _size(pool: Pool, n: int) -> int:
    if pool.counted is None or pool.counted < n:
        raise ValueError(f"{n} units were drawn from a pool of {pool.counted}")
    return pool.counted
