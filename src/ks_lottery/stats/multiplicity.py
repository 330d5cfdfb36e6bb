"""Corrections of p-values for many tests at once, in logarithms, since small p-values underflow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

CORRECTIONS = ("none", "bonferroni", "holm", "bh")
"""``bonferroni`` and ``holm`` (1979) bound the chance of any false rejection, ``bh`` (Benjamini and Hochberg, 1995) the
expected share of false ones."""


def adjust(log_p: npt.NDArray[np.float64], correction: str) -> npt.NDArray[np.float64]:
    """Return log p-values adjusted so that p_adjusted < alpha is the corrected decision, at most log 1.

    Parameters
    ----------
    log_p
        Natural logarithms of p, shape (n,); all n tests count, also those of units that did not move.
    correction
        One of `CORRECTIONS`.

    Raises
    ------
    ValueError
        When the correction is not known.

    Examples
    --------
    >>> import numpy as np
    >>> p = np.array([0.01, 0.02, 0.03, 0.5])
    >>> [np.exp(adjust(np.log(p), c)).round(4).tolist() for c in ("bonferroni", "holm", "bh")]
    [[0.04, 0.08, 0.12, 1.0], [0.04, 0.06, 0.06, 0.5], [0.04, 0.04, 0.04, 0.5]]
    """
    if correction not in CORRECTIONS:
        raise ValueError(f"correction {correction!r} is none of {', '.join(CORRECTIONS)}")
    n = len(log_p)
    if correction == "none" or n == 0:
        return log_p.copy()
    if correction == "bonferroni":
        return np.minimum(log_p + np.log(n), 0.0)
    order = np.argsort(log_p, kind="stable")
    rank = np.arange(n)
    if correction == "holm":
        stepped = np.maximum.accumulate(log_p[order] + np.log(n - rank))
    else:
        stepped = np.minimum.accumulate((log_p[order] + np.log(n) - np.log(rank + 1))[::-1])[::-1]
    result = np.empty_like(log_p)
    result[order] = np.minimum(stepped, 0.0)
    return result
