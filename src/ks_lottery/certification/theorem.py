"""The paper's bound (theorem 2, algorithm 1), in the paper's symbols. Arrays in, arrays out.

Must never claim more than the theorem: what it assumes is said in docs/method.md, and the audit counts what it misses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ks_lottery.config.choices import RULES

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ks_lottery.evaluation.predictions import Predictions


def half_gap(predictions: Predictions) -> npt.NDArray[np.float64]:
    """Return (p_A - p_B) / 2 of each position, from 0 to 1/2."""
    return (predictions.p_first - predictions.p_second) / 2


def rule_half_gap(rule: str, original: Predictions, tuned: Predictions) -> npt.NDArray[np.float64]:
    """Return the half gap that a rule compares with tau: of `tuned` for ``theorem``, of `original` for the other two."""
    return half_gap(tuned if rule == "theorem" else original)


def certified(rule: str, original: Predictions, tuned: Predictions, tau: float) -> npt.NDArray[np.bool_]:
    """Return which positions are certified at `tau`: the small model is held to answer the reference's token y there.

    Parameters
    ----------
    rule
        ``theorem``: argmax of `tuned` is y, and its half gap exceeds `tau` (inequality 3; the only rule that theorem 2
        covers). ``algorithm1``: argmax of `tuned` is y, and the half gap of `original` exceeds `tau`. ``both``:
        `original` and `tuned` both answer y, and the half gap of `original` exceeds `tau`.
    tau
        Bound on the KS distance of every row that was not selected, from 0 to 1.

    Raises
    ------
    ValueError
        When the rule is not known or the predictions are of different positions.
    """
    if len(original) != len(tuned) or (original.label != tuned.label).any():
        raise ValueError("the predictions are of different positions")
    if rule not in RULES:
        raise ValueError(f"rule {rule!r} is none of {', '.join(RULES)}")
    right = tuned.correct & original.correct if rule == "both" else tuned.correct
    return right & (rule_half_gap(rule, original, tuned) > tau)
