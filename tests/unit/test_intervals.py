"""Bounds against closed forms, and the input they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import beta

from ks_lottery.stats import intervals
from ks_lottery.stats.intervals import bootstrap_interval, clopper_pearson, tau_empirical, tau_exact, tau_table
from ks_lottery.stats.null import critical_count, pvalues


@pytest.mark.parametrize("alpha", [1e-300, 1e-6, 0.05, 0.5, 1.0])
@pytest.mark.parametrize("d", [1, 576, 4096])
def test_tau_table(alpha: float, d: int) -> None:
    tau = tau_table(alpha, d)
    assert tau == pytest.approx(math.sqrt(-math.log(alpha / 2) / d), rel=1e-12)
    # Its inverse: Smirnov's tail 2 exp(-d D^2) is alpha.
    assert math.log(2) - d * tau**2 == pytest.approx(math.log(alpha), abs=1e-9)


def test_tau_table_at_the_ends() -> None:
    assert tau_table(0.0, 10) == math.inf
    assert round(tau_table(0.05, 4096), 3) == 0.030
    assert round(tau_table(0.05, 576), 3) == 0.080
    assert math.isfinite(tau_table(5e-324, 10))


@pytest.mark.parametrize("d", [1, 2, 10, 576, 4096])
def test_tau_exact(d: int) -> None:
    assert tau_exact(0.0, d) == 1.0
    assert tau_exact(1.0, d) == 0.0
    for alpha in (1e-9, 0.01, 0.05, 0.5, 0.99):
        k = critical_count(d, alpha)
        assert tau_exact(alpha, d) == min(1.0, k / d)
        assert pvalues(d)[k - 1] >= alpha
        assert k > d or pvalues(d)[k] < alpha
    if d >= 576:
        assert tau_exact(0.05, d) == pytest.approx(tau_table(0.05, d), rel=0.05)


def test_tau_empirical() -> None:
    assert tau_empirical(np.array([])) == 0.0
    assert tau_empirical(np.zeros(4)) == 0.0
    assert tau_empirical(np.array([0.1, 0.7, 0.2])) == 0.7
    for bad in (math.nan, -0.1, 1.1):
        with pytest.raises(ValueError, match="distance"):
            tau_empirical([0.5, bad])


@pytest.mark.parametrize("call", [tau_table, tau_exact])
def test_taus_refuse(call: object) -> None:
    for alpha, d, match in ((-0.1, 5, "alpha"), (1.5, 5, "alpha"), (math.nan, 5, "alpha"), (0.1, 0, "d = 0")):
        with pytest.raises(ValueError, match=match):
            call(alpha, d)  # type: ignore[operator]


def test_bootstrap_is_a_function_of_its_seed() -> None:
    generator = np.random.default_rng(0)
    below = generator.integers(1, 21, size=200)
    above = generator.binomial(below, 0.3)
    first = bootstrap_interval(above, below, seed=5)
    assert first == bootstrap_interval(above, below, seed=5)
    assert first != bootstrap_interval(above, below, seed=6)
    low, high = first
    rate = above.sum() / below.sum()
    assert low < rate < high
    # The width of the linearised ratio's normal interval.
    error = np.sqrt(((above - rate * below) ** 2).sum()) / below.sum()
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.1)
    wide = bootstrap_interval(above, below, confidence=0.999, seed=5)
    assert wide[0] < low
    assert high < wide[1]


def test_bootstrap_of_a_mean_of_two() -> None:
    # Two sentences: the resampled ratio is 0, 1/2 or 1 with probability 1/4, 1/2, 1/4.
    assert bootstrap_interval([0, 1], [1, 1], confidence=0.9) == (0.0, 1.0)
    assert bootstrap_interval([0, 1], [1, 1], confidence=0.2) == (0.5, 0.5)
    assert bootstrap_interval([3], [4], resamples=1) == (0.75, 0.75)


def test_bootstrap_leaves_out_empty_sentences() -> None:
    assert bootstrap_interval([1, 0, 2, 0], [2, 0, 3, 0]) == bootstrap_interval([1, 2], [2, 3])


def test_bootstrap_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    above, below = np.arange(50.0), np.arange(50.0) + 10
    whole = bootstrap_interval(above, below)
    monkeypatch.setattr(intervals, "_DRAWS", 1000)
    assert bootstrap_interval(above, below) == pytest.approx(whole, rel=0.05)


@pytest.mark.parametrize(
    ("above", "below", "more"),
    [
        ([1, 2], [1], {}),
        ([[1]], [[1]], {}),
        ([], [], {}),
        ([0.0], [0.0], {}),
        ([1.0], [0.0], {}),
        ([1.0, 1.0], [2.0, -1.0], {}),
        ([math.nan], [1.0], {}),
        ([1.0], [math.inf], {}),
        ([1.0], [1.0], {"confidence": 1.0}),
        ([1.0], [1.0], {"confidence": 0.0}),
        ([1.0], [1.0], {"resamples": 0}),
    ],
)
def test_bootstrap_refuses(above: list[float], below: list[float], more: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"shape|finite|denominator|confidence|resample"):
        bootstrap_interval(above, below, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 50), (3, 50), (50, 50), (999, 1000)])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_clopper_pearson(k: int, n: int, confidence: float) -> None:
    tail = (1 - confidence) / 2
    low, high = clopper_pearson(k, n, confidence)
    assert low == pytest.approx(beta.ppf(tail, k, n - k + 1) if k else 0.0, rel=1e-9)
    assert high == pytest.approx(beta.ppf(1 - tail, k + 1, n - k) if k < n else 1.0, rel=1e-9)


def test_clopper_pearson_takes_numpy_integers_and_no_trials() -> None:
    assert clopper_pearson(0, 0) == (0.0, 1.0)
    assert clopper_pearson(np.int64(3), np.int64(9)) == clopper_pearson(3, 9)  # type: ignore[arg-type]


@pytest.mark.parametrize(("k", "n", "confidence"), [(-1, 3, 0.9), (4, 3, 0.9), (0, -1, 0.9), (1, 3, 1.0), (1, 3, 0.0)])
def test_clopper_pearson_refuses(k: int, n: int, confidence: float) -> None:
    with pytest.raises(ValueError, match=r"successes|confidence"):
        clopper_pearson(k, n, confidence)
