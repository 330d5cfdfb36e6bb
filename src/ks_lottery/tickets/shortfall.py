"""By which factor the moves of two models fall short of a ticket: measured, by scaling them and testing again."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ks_lottery.stats.ks import ks_counts
from ks_lottery.stats.null import critical_count
from ks_lottery.tickets.power import passing
from ks_lottery.tickets.scan_sections import LARGEST

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from ks_lottery.checkpoint.tensors import Source
    from ks_lottery.tickets.pairs import TensorPair
    from ks_lottery.tickets.scan import Scan

FIRST = 32
"""Units by p, and as many by move / spread, whose moves are scaled."""

STEP = 1.05
"""Ratio of neighbouring factors; the first that lets a unit pass is then bisected."""

PRECISION = 1e-3
"""Relative error of the factor."""


def shortfall(
    scan: Scan, base: Source, tuned: Source, pairs: Sequence[TensorPair], alpha: float
) -> dict[str, Any] | None:
    """Measure by which factor the moves of a scan would have to grow until one unit has p < alpha.

    D grows less than in proportion to a move, so the factor cannot be read from D: the moves are scaled and tested again.

    Parameters
    ----------
    base, tuned, pairs
        What was compared: a pair of tensors for each part of the scan. Only the units whose moves are scaled are read again.

    Returns
    -------
    dict or None
        ``alpha``; ``factor``, the smallest one found (None: no factor up to `LARGEST` is enough); and ``units``, the number of
        units whose moves were scaled: the first by p and the first by move / spread. It holds for this pair of models alone.
        None where a unit passes, none moved, or alpha is 0.
    """
    if alpha <= 0 or not scan.moved.any() or len(passing(scan, alpha)):
        return None
    units = candidates(scan.by_pvalue(), np.where(np.isfinite(scan.spread), scan.spread, 0.0), scan.moved > 0)
    groups: dict[tuple[int, torch.dtype], list[torch.Tensor]] = defaultdict(list)
    for unit in units.tolist():
        place = next(i for i, part in enumerate(scan.parts) if part.start <= unit < part.start + part.count)
        row, pair = unit - scan.parts[place].start, pairs[place]
        sides = (base.block(pair.before, row, row + 1), tuned.block(pair.after, row, row + 1))
        groups[pair.width, pair.compared_as].append(torch.stack([side[0].to(pair.compared_as) for side in sides]))
    both = [torch.stack(group, dim=1) for group in groups.values()]
    return {
        "alpha": alpha,
        "factor": smallest_factor([(one, other) for one, other in both], alpha),
        "units": len(units),
    }


def candidates(
    by_pvalue: npt.NDArray[np.int64], spread: npt.NDArray[np.float64], moved: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """Return the first `FIRST` units by p and by move / spread, of those that moved, ascending."""
    by_spread = np.argsort(-spread, kind="stable")
    first = [order[moved[order]][:FIRST] for order in (by_pvalue, by_spread)]
    return np.unique(np.concatenate(first))


def smallest_factor(pairs: Sequence[tuple[torch.Tensor, torch.Tensor]], alpha: float) -> float | None:
    """Return the smallest factor of the moves at which one unit has p < alpha, up to `LARGEST`; None where there is none.

    Parameters
    ----------
    pairs
        Units before and after, each of shape (n, width), in the type in which they are compared; scaled values are
        rounded to it.
    """
    scalable = [_Scalable(before, after, alpha) for before, after in pairs]

    def passes(factor: float) -> bool:
        return any(units.passes(factor) for units in scalable)

    low, high = 1.0, STEP
    while not passes(high):
        if high >= LARGEST:
            return None
        low, high = high, min(high * STEP, LARGEST)
    while high / low > 1 + PRECISION:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if passes(middle) else (middle, high)
    return high


class _Scalable:
    """Units of one width whose moves can be scaled."""

    def __init__(self, before: torch.Tensor, after: torch.Tensor, alpha: float) -> None:
        self.kind = before.dtype
        self.critical = critical_count(int(before.shape[1]), alpha)
        self.before = before
        self.start = before.double()
        self.move = after.double() - self.start

    def passes(self, factor: float) -> bool:
        scaled = (self.start + factor * self.move).float().to(self.kind)
        bad = torch.isnan(scaled).any(dim=1)  # a scaled value can be out of range of the type
        if bool(bad.all()):
            return False
        before, after = (_counted(side[~bad]) for side in (self.before, scaled))
        return bool((ks_counts(before, after) >= self.critical).any())


def _counted(values: torch.Tensor) -> torch.Tensor:
    """Return values in a type that is counted: 8 bits fit into float16 exactly."""
    return values.half() if values.dtype.itemsize == 1 else values
