"""How far a rival score ranks rows as the KS test does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_lottery.stats.ranks import average_ranks

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True, kw_only=True)
class RankAgreement:
    """How far a rival ranks rows as the KS test does.

    Parameters
    ----------
    spearman
        Spearman's correlation of the rival's ranks with those by KS, over all rows that moved, ties averaged; None where one of
        the two ranks all of them alike, or fewer than two are left.
    compared
        Rows that it was taken over: those that moved and have this score.
    shared
        How many of the K tickets are among the K rows that come first by the rival; ties go to the lower row.
    """

    spearman: float | None
    compared: int
    shared: int


def agreement_of(
    score: npt.NDArray[np.float64],
    counts: npt.NDArray[np.int64],
    moved: npt.NDArray[np.int64],
    tickets: npt.NDArray[np.int64],
) -> RankAgreement:
    """Compare the ranks by a rival with those by KS counts, both shape (V,); `moved` and `tickets` are rows."""
    from scipy.stats import spearmanr

    known = moved[~np.isnan(score[moved])]
    a, b = score[known], counts[known]
    first = np.argsort(np.where(np.isnan(score), np.inf, -score), kind="stable")[: len(tickets)]
    shared = int(np.isin(tickets, first).sum())
    if len(known) < 2 or bool((a == a[0]).all() or (b == b[0]).all()):
        return RankAgreement(spearman=None, compared=len(known), shared=shared)
    # Ranks and not scores: an infinite score has a rank too.
    result: Any = spearmanr(average_ranks(a), average_ranks(b.astype(np.float64)))
    return RankAgreement(spearman=float(result.statistic), compared=len(known), shared=shared)
