"""Bounds of a mean loss against MAPIE, SciPy's exact test, and the definition in arbitrary precision."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from mapie.risk_control import control_fwer
from mapie.risk_control.methods import compute_hoeffding_bentkus_p_value
from scipy.stats import binomtest

from ks_lottery.stats.risk import (
    binomial_pvalue,
    clopper_pearson_upper,
    fixed_sequence,
    hoeffding_bentkus_pvalue,
    hoeffding_bentkus_upper,
)

EPSILONS = np.array([0.001, 0.01, 0.05, 0.2, 0.5, 0.9])


def definition(total: mpmath.mpf, n: int, epsilon: float) -> mpmath.mpf:
    """Return the Hoeffding-Bentkus p-value as Learn then Test writes it, to 40 digits."""
    with mpmath.workdps(40):
        eps, r = mpmath.mpf(epsilon), mpmath.mpf(total) / n
        a = min(r, eps)
        h1 = (a * mpmath.log(a / eps) if a else 0) + (1 - a) * mpmath.log((1 - a) / (1 - eps))
        tail = mpmath.fsum(
            mpmath.binomial(n, j) * eps**j * (1 - eps) ** (n - j) for j in range(int(mpmath.ceil(total)) + 1)
        )
        return min(mpmath.exp(-n * h1), mpmath.e * tail, mpmath.mpf(1))


@pytest.mark.parametrize("n", [1, 2, 59, 200])
def test_hoeffding_bentkus_is_its_definition(n: int) -> None:
    for total in {0.0, 0.25, n / 64, n / 16, 1.0, float(n // 3), n - 0.5, float(n)}:
        for epsilon in EPSILONS:
            expected = float(definition(mpmath.mpf(total), n, epsilon))
            assert hoeffding_bentkus_pvalue(total, n, epsilon) == pytest.approx(expected, rel=1e-10, abs=0)


@pytest.mark.parametrize("n", [10, 59, 200, 1000])
def test_hoeffding_bentkus_is_that_of_mapie(n: int) -> None:
    # Away from whole sums, where the ceiling of n times a rounded mean is not the trap that the next test shows.
    total = np.arange(n) + 0.5
    theirs = compute_hoeffding_bentkus_p_value(total / n, n, EPSILONS)
    ours = hoeffding_bentkus_pvalue(total[:, None], n, EPSILONS)
    np.testing.assert_allclose(ours, np.minimum(theirs, 1.0), rtol=1e-8)


def test_a_whole_sum_is_not_rounded_up() -> None:
    traps = [(k, n) for n in range(2, 200) for k in range(1, n) if math.ceil(n * (k / n)) > k]
    assert traps
    for k, n in traps:
        expected = definition(mpmath.mpf(k), n, 0.3)
        assert hoeffding_bentkus_pvalue(float(k), n, 0.3) == pytest.approx(float(expected), rel=1e-9)
        if n < 40:  # the same sum, put together from losses with rounding
            losses = [k / n] * n
            assert hoeffding_bentkus_pvalue(sum(losses), n, 0.3) == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize("delta", [1e-6, 0.05, 0.5])
@pytest.mark.parametrize(("total", "n"), [(0.0, 1), (0.0, 59), (2.5, 200), (100.0, 200), (199.5, 200)])
def test_the_upper_bound_is_where_the_definition_crosses_delta(total: float, n: int, delta: float) -> None:
    upper = float(hoeffding_bentkus_upper(total, n, delta))
    assert upper >= total / n
    if upper < 1.0:
        assert definition(mpmath.mpf(total), n, upper) <= delta * (1 + 1e-12)
    assert definition(mpmath.mpf(total), n, upper - 1e-9) > delta


@pytest.mark.parametrize("delta", [1e-6, 0.05, 0.5, 0.95])
@pytest.mark.parametrize("n", [1, 2, 59, 500])
def test_clopper_pearson_is_that_of_scipy(n: int, delta: float) -> None:
    k = np.unique(np.linspace(0, n, 12).astype(int))
    theirs = [
        binomtest(int(j), n, alternative="less").proportion_ci(confidence_level=1 - delta, method="exact").high
        for j in k
    ]
    np.testing.assert_allclose(
        clopper_pearson_upper(k, n, delta), theirs, rtol=1e-9, atol=5e-12
    )  # brentq stops at 2e-12
    for epsilon in EPSILONS:
        exact = [binomtest(int(j), n, epsilon, alternative="less").pvalue for j in k]
        np.testing.assert_allclose(binomial_pvalue(k, n, epsilon), exact, rtol=1e-9)


def test_fixed_sequence_is_that_of_mapie() -> None:
    generator = np.random.default_rng(0)
    for _ in range(200):
        p = generator.random(generator.integers(1, 12)) ** 4
        theirs = control_fwer(p, 0.1, "fixed_sequence")
        assert fixed_sequence(p, 0.1).tolist() == theirs.tolist()
