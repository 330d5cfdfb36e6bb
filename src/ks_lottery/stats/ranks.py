"""Ranks by falling score, ties averaged: what table 3 of the paper shows of each row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


def average_ranks(score: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return ranks by falling score, 1 for the largest, ties averaged; NaN keeps NaN, and counts as least important.

    The same numbers as ``scipy.stats.rankdata(-score)``. They come from Arrow, which a scan has loaded for its file anyway;
    importing ``scipy.stats`` would take most of a second.

    Parameters
    ----------
    score
        Shape (N,).

    Examples
    --------
    >>> average_ranks(np.array([1.0, 5.0, 1.0, 0.0])).tolist()
    [2.5, 1.0, 2.5, 4.0]
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    compute: Any = pc  # pyarrow makes its functions when it is imported, so that no type checker knows them
    ranks = np.full(len(score), np.nan)
    known = np.flatnonzero(~np.isnan(score))
    values = pa.array(score[known] + 0.0)  # -0.0 becomes 0.0: they are tied
    first = compute.rank(values, sort_keys="descending", tiebreaker="min").to_numpy().astype(np.int64)
    ranks[known] = first + (np.bincount(first, minlength=1)[first] - 1) / 2
    return ranks


def rank_fraction(score: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return `average_ranks` over the number of scores: rank / V, as in table 3 of the paper.

    >>> rank_fraction(np.array([1.0, 5.0, 1.0, 0.0])).tolist()
    [0.625, 0.25, 0.625, 1.0]
    """
    return average_ranks(score) / len(score)
