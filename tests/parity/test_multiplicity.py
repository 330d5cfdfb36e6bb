"""Corrections against SciPy and against the step procedures written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

from ks_lottery.stats.multiplicity import CORRECTIONS, adjust

PVALUES = st.lists(st.floats(1e-12, 1.0), min_size=1, max_size=30)


@given(PVALUES)
def test_bh_is_scipys(pvalues: list[float]) -> None:
    ours = np.exp(adjust(np.log(pvalues), "bh"))
    np.testing.assert_allclose(ours, false_discovery_control(pvalues, method="bh"), rtol=1e-9)


def rejected(pvalues: list[float], alpha: float, correction: str) -> set[int]:
    """The procedures as they are defined."""
    n = len(pvalues)
    if correction == "bonferroni":
        return {i for i, p in enumerate(pvalues) if p * n < alpha}
    found = set()
    for rank, i in enumerate(sorted(range(n), key=lambda i: pvalues[i])):  # Holm: stop at the first that fails
        if not pvalues[i] * (n - rank) < alpha:
            break
        found.add(i)
    return found


@given(PVALUES, st.floats(0.01, 0.99), st.sampled_from(["bonferroni", "holm"]))
def test_step_procedures(pvalues: list[float], alpha: float, correction: str) -> None:
    adjusted = np.exp(adjust(np.log(pvalues), correction))
    if np.min(np.abs(adjusted - alpha)) < 1e-9:
        return  # a tie with alpha is decided by rounding
    assert set(np.flatnonzero(adjusted < alpha).tolist()) == rejected(pvalues, alpha, correction)


@pytest.mark.parametrize("correction", CORRECTIONS)
def test_what_underflows_stays_in_order(correction: str) -> None:
    log_p = np.array([-2000.0, -1000.0, -900.0, -0.1])
    adjusted = adjust(log_p, correction)
    assert (np.diff(adjusted) >= 0).all()
    assert adjusted[0] <= -1998
    assert adjust(np.array([]), correction).shape == (0,)


def test_unknown() -> None:
    with pytest.raises(ValueError, match="none of none, bonferroni, holm, bh"):
        adjust(np.zeros(3), "sidak")
