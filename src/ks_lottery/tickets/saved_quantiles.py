"""Reads the first units of a scan again, and returns their distributions before and after as quantiles."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

import numpy as np

from ks_lottery.tickets.distributions import NUMBER, SIDES, Quantiles, quantiles_of_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ks_lottery.checkpoint.tensors import Source
    from ks_lottery.tickets.pairs import TensorPair
    from ks_lottery.tickets.scan import Scan


def quantiles_of(scan: Scan, base: Source, tuned: Source, pairs: Sequence[TensorPair], most: int) -> Quantiles:
    """Return the quantiles of the first `most` units that moved, by p, in the type in which they were compared.

    Parameters
    ----------
    base, tuned, pairs
        What was compared: a pair of tensors for each part of the scan.
    """
    order = scan.by_pvalue()
    units = np.sort(order[scan.moved[order] > 0][:most])
    found = {side: np.empty((len(units), NUMBER), dtype=np.float32) for side in SIDES}
    starts = [part.start for part in scan.parts]
    for place, unit in enumerate(units.tolist()):
        at = bisect_right(starts, unit) - 1
        pair, row = pairs[at], unit - starts[at]
        blocks = (base.block(pair.before, row, row + 1), tuned.block(pair.after, row, row + 1))
        for side, block in zip(SIDES, blocks, strict=True):
            found[side][place] = quantiles_of_rows(block.to(pair.compared_as).float().numpy())[0]
    return Quantiles(units=units, before=found["before"], after=found["after"])
