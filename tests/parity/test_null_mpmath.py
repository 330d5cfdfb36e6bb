"""The table of log p against the same sum in arbitrary precision.

Must never use floating point on the reference's side.
"""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

from ks_lottery.stats.null import log_pvalues, pvalues


def reference(d: int, k: int) -> mpmath.mpf:
    """Return log P(K >= k) to 50 digits."""
    with mpmath.workdps(50):
        # The terms fall off so fast that those below 1e-60 of the first cannot be seen.
        terms, ratio, m = [], mpmath.mpf(1), 0
        for j in range(1, d // k + 1):
            while m < j * k:
                m += 1
                ratio *= mpmath.mpf(d - m + 1) / (d + m)
            terms.append(ratio if j % 2 else -ratio)
            if ratio < mpmath.mpf(10) ** -60 * terms[0]:
                break
        return mpmath.log(2 * mpmath.fsum(terms))


CASES = [
    (d, k)
    for d, counts in {
        1: [1],
        2: [1, 2],
        7: [2, 3, 7],
        576: [2, 5, 20, 30, 47, 100, 200, 400, 515, 530, 575, 576],
        4096: [10, 60, 124, 300, 900, 1600, 1640, 1700, 3000, 4096],
        20000: [30, 150, 272, 1000, 3000, 3700, 3720, 3800, 10000, 20000],
    }.items()
    for k in counts
]


@pytest.mark.parametrize(("d", "k"), CASES)
def test_relative_error_of_p(d: int, k: int) -> None:
    expected = reference(d, k)
    ours = float(log_pvalues(d)[k])
    # A difference of logarithms is a relative difference of p, also where p underflows.
    assert abs(ours - expected) < 1e-10
    if k > 1 and expected > -700:
        assert pvalues(d)[k] == pytest.approx(float(mpmath.exp(expected)), rel=1e-10, abs=0)


@pytest.mark.parametrize("d", [1, 2, 3, 10, 576, 4096, 20000])
def test_shape_of_the_table(d: int) -> None:
    log_p = log_pvalues(d)
    assert log_p.shape == (d + 1,)
    assert log_p[0] == log_p[1] == 0.0
    assert np.all(np.diff(log_p) <= 0)
    assert not log_p.flags.writeable
    assert log_pvalues(d) is log_p
    assert pvalues(d)[0] == 1.0


def test_a_million() -> None:
    d = 1_000_000
    log_p = log_pvalues(d)
    # Kolmogorov's limit (the table has the finite d, which differs by O(1 / sqrt(d))).
    for k in (600, 1000, 1921, 3000):
        limit = 2 * sum((-1) ** (j - 1) * np.exp(-(j**2) * k**2 / d) for j in range(1, 60))
        assert np.exp(log_p[k]) == pytest.approx(limit, rel=1e-4)
    assert np.isfinite(log_p).all()


def test_no_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="d = 0"):
        log_pvalues(0)
