"""Bounds of a finite pool against SciPy's hypergeometric distribution, and against the process of betting written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import hypergeom

from ks_lottery.stats.betting import LARGEST_BET, betting_pvalue, betting_upper
from ks_lottery.stats.finite import hypergeometric_pvalue, hypergeometric_upper, units_needed
from ks_lottery.stats.risk import clopper_pearson_upper


@pytest.mark.parametrize("delta", [0.003, 0.05, 0.1, 0.3, 0.7])
def test_the_upper_bound_is_the_largest_possible_pool(delta: float) -> None:
    for size in (1, 2, 7, 30, 61):
        for n in {1, size // 2 or 1, size}:
            for k in range(n + 1):
                possible = [K for K in range(k, size - n + k + 1) if hypergeom(size, K, n).cdf(k) > delta * (1 - 1e-9)]
                assert hypergeometric_upper(k, n, size, delta) == max(possible, default=k) / size


def test_the_p_value_is_that_of_the_fewest_failures_above_epsilon() -> None:
    generator = np.random.default_rng(0)
    for _ in range(300):
        size = int(generator.integers(2, 400))
        n = int(generator.integers(1, size + 1))
        k, epsilon = int(generator.integers(0, n + 1)), float(generator.uniform(0.001, 0.999))
        fewest = next(K for K in range(size + 1) if K / size > epsilon)
        wanted = hypergeom(size, fewest, n).cdf(k)
        assert hypergeometric_pvalue(k, n, size, epsilon) == pytest.approx(wanted, rel=1e-9)
    table = hypergeometric_pvalue(np.arange(4)[:, None], 9, 40, np.array([0.1, 0.3]))
    assert table[2, 1] == hypergeometric_pvalue(2, 9, 40, 0.3)


def test_ninety_of_185_without_a_failure() -> None:
    """0.978 instead of 0.967; a large pool gives Clopper-Pearson."""
    assert 1 - hypergeometric_upper(0, 90, 185, 0.05) == pytest.approx(181 / 185)
    assert 1 - clopper_pearson_upper(0, 90, 0.05) == pytest.approx(0.9673, abs=1e-4)
    for k in (0, 3, 40):
        wanted = clopper_pearson_upper(k, 90, 0.05)
        assert hypergeometric_upper(k, 90, 10**8, 0.05) == pytest.approx(wanted, abs=1e-6)


def wealth(losses: list[float], size: int | None, m: float, delta: float) -> float:
    """Return the largest wealth, bet by bet."""
    n, money, best, seen = len(losses), 1.0, 1.0, 0.0
    mean, squares = 0.0, 0.25  # variance before the first unit: 1/4
    variance = 0.25
    for t, loss in enumerate(losses, 1):
        expected = m if size is None else (size * m - seen) / (size - t + 1)
        if expected > 1 + 1e-9:
            return math.inf
        expected = min(max(expected, 0.0), 1 - 1e-12)
        bet = min(math.sqrt(2 * math.log(1 / delta) / (n * variance)), LARGEST_BET / (1 - expected))
        money *= 1 + bet * (expected - loss)
        best, seen = max(best, money), seen + loss
        mean = (0.5 + seen) / (t + 1)
        squares += (loss - mean) ** 2
        variance = squares / (t + 1)
    if size is not None and size * m - seen > (size - n) + 1e-9 * size:
        return math.inf
    return best


@pytest.mark.parametrize("delta", [0.05, 0.3])
@pytest.mark.parametrize("size", [None, 12, 30, 500])
def test_betting_is_the_process_written_out(size: int | None, delta: float) -> None:
    generator = np.random.default_rng(1)
    for n in (1, 5, 12):
        draws = generator.beta(0.3, 1.0, (6, n)).round(2)
        draws[0] = 0.0
        epsilon = generator.uniform(0.05, 0.95, 6)
        found = betting_pvalue(draws, size, epsilon, delta)
        wanted = [1 / wealth(x, size, m, delta) for x, m in zip(draws.tolist(), epsilon.tolist(), strict=True)]
        assert found == pytest.approx(wanted, rel=1e-9)
        for x, upper in zip(draws, betting_upper(draws, size, delta), strict=True):
            assert upper == betting_upper(x, size, delta)  # batched equals one call a draw
            assert upper == 1.0 or wealth(x.tolist(), size, upper, delta) >= (1 - 1e-9) / delta
            assert wealth(x.tolist(), size, upper - 1e-9, delta) < 1 / delta * (1 + 1e-6) or upper < 1e-9


def test_the_wealth_grows_with_the_mean_in_question() -> None:
    draws = np.random.default_rng(2).beta(0.5, 2.0, 40)
    for size in (None, 40, 41, 90):
        p = betting_pvalue(np.broadcast_to(draws, (300, 40)), size, np.linspace(0.01, 0.99, 300), 0.05)
        assert (np.diff(p) <= 1e-12).all()
        assert p[0] == 1.0
        assert p[-1] < 0.05


def test_a_pool_that_was_drawn_whole_is_known() -> None:
    draws = np.random.default_rng(3).random((5, 20))
    assert betting_upper(draws, 20, 0.05) == pytest.approx(draws.mean(axis=1), abs=1e-8)
    assert hypergeometric_upper(7, 20, 20, 0.05) == 7 / 20


def test_how_many_units_are_needed() -> None:
    for size in (10, 120, 997):
        for epsilon in (0.02, 0.05, 0.3):
            n = next(n for n in range(1, size + 1) if hypergeometric_pvalue(0, n, size, epsilon) <= 0.05)
            assert units_needed(size, epsilon, 0.05, any_loss=True) == n
            n = next(n for n in range(1, size + 1) if betting_pvalue(np.zeros(n), size, epsilon, 0.05) <= 0.05)
            assert units_needed(size, epsilon, 0.05, any_loss=False) == n
    assert units_needed(None, 1e-6, 0.05, any_loss=False) is None


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: hypergeometric_upper(3, 2, 5, 0.1), "whole numbers"),
        (lambda: hypergeometric_upper(0, 6, 5, 0.1), "whole numbers"),
        (lambda: hypergeometric_pvalue(0.5, 2, 5, 0.1), "whole numbers"),
        (lambda: hypergeometric_pvalue(0, 2, 5, 1.0), "epsilon"),
        (lambda: hypergeometric_upper(0, 2, 5, 0.0), "delta"),
        (lambda: betting_upper([0.5, 1.5], 5, 0.1), "losses must be"),
        (lambda: betting_upper([], 5, 0.1), "losses must be"),
        (lambda: betting_upper([0.5] * 6, 5, 0.1), "cannot give 6"),
        (lambda: betting_upper([0.5], 5, 1.0), "delta"),
        (lambda: betting_pvalue([0.5], 5, 0.0, 0.1), "epsilon"),
    ],
)
def test_what_is_refused(call, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        call()
