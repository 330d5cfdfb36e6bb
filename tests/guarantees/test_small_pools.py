"""The bounds without replacement, by enumeration: every small pool, every draw of it, in every order.

Must never use a sample: each probability is summed up.
"""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
import pytest
from scipy.stats import hypergeom

from ks_lottery.certification.guarantee import guarantee
from ks_lottery.certification.pool import Pool
from ks_lottery.stats.betting import betting_upper
from ks_lottery.stats.risk import clopper_pearson_upper

DELTAS = (0.001, 0.01, 0.05, 0.1, 0.2, 0.25)


@cache
def upper_of(failures: int, n: int, delta: float, size: int | None = None) -> float:
    """Return the upper bound that `guarantee` reports for so many failed units, of a pool of known or unknown size."""
    pool = Pool("pool", "", "sentence", n if size is None else size, n, "", counted=size)
    agree = np.arange(n) >= failures
    return 1.0 - guarantee(agree, agree, np.arange(n), delta=delta, pool=pool, order=range(n))[0].lower


def violation(uppers: np.ndarray, probabilities: np.ndarray, rate: np.ndarray | float) -> np.ndarray:
    """Return the chance that the bound lies below the rate (a rounding error below is none)."""
    return (probabilities * (uppers < np.asarray(rate)[..., None] - 1e-12)).sum(axis=-1)


def draws(n: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rate of failures of every pool of that size, and the chance of each count in a draw of n of it."""
    failed = np.arange(size + 1)
    return failed / size, hypergeom.pmf(np.arange(n + 1), size, failed[:, None], n)


@pytest.mark.parametrize("delta", DELTAS)
def test_the_bound_holds_in_every_small_pool(delta: float) -> None:
    worst = 0.0
    for n in range(1, 26):
        uppers = np.array([upper_of(k, n, delta) for k in range(n + 1)])
        for size in range(n, 41):
            rate, chances = draws(n, size)
            worst = max(worst, violation(uppers, chances, rate).max())
    assert 0.3 * delta < worst <= delta * (1 + 1e-9)


@pytest.mark.parametrize("delta", [*DELTAS, 0.6])
def test_the_bound_that_knows_the_size_holds_in_every_small_pool(delta: float) -> None:
    worst = 0.0
    for size in range(1, 16):
        for n in range(1, size + 1):
            uppers = np.array([upper_of(k, n, delta, size) for k in range(n + 1)])
            rate, chances = draws(n, size)
            worst = max(worst, violation(uppers, chances, rate).max())
    assert worst <= delta * (1 + 1e-9)
    assert delta < 0.05 or worst > 0.5 * delta


@pytest.mark.parametrize("delta", [0.05, 0.1, 0.25, 0.5])
@pytest.mark.parametrize(("values", "size"), [((0.0, 1.0), 11), ((0.0, 0.3, 1.0), 6), ((0.0, 0.1, 0.5, 0.9), 5)])
def test_betting_holds_in_every_small_pool(values: tuple[float, ...], size: int, delta: float) -> None:
    """Every order in which every pool of these losses can be drawn; orders of one pool are equally likely."""
    orders = np.array(list(itertools.product(values, repeat=size)))
    pools, of = np.unique(np.sort(orders, axis=1), axis=0, return_inverse=True)
    means = pools.mean(axis=1)
    worst = 0.0
    for n in range(1, size + 1):
        wrong = betting_upper(orders[:, :n], size, delta) < means[of.ravel()] - 1e-9
        rates = np.bincount(of.ravel(), weights=wrong) / np.bincount(of.ravel())
        worst = max(worst, rates.max())
    assert worst <= delta * (1 + 1e-9)
    assert worst > 0.0 or delta < 0.25


def test_the_plain_bound_fails_only_where_all_but_one_failed() -> None:
    found = 0
    for n, delta in itertools.product(range(2, 12), np.linspace(0.005, 0.25, 50)):
        failures = np.arange(n + 1)
        uppers = clopper_pearson_upper(failures, n, delta)
        for size in range(n, 25):
            rate, chances = draws(n, size)
            fails = violation(uppers, chances, rate) > delta * (1 + 1e-9)
            assert (rate[fails] > 1 - 1 / n).all()
            assert (violation(np.where(failures >= n - 1, 1.0, uppers), chances, rate) <= delta * (1 + 1e-9)).all()
            found += fails.sum()
    assert found  # the reason for the silence


def test_the_bound_holds_with_one_sentence_of_each_document() -> None:
    """Documents drawn without replacement, each answered by one of its sentences: the exact distribution."""
    generator = np.random.default_rng(0)
    for _ in range(100):
        size = int(generator.integers(2, 13))
        n = int(generator.integers(1, size + 1))
        chance = generator.beta(*generator.choice([0.1, 0.5, 2.0, 8.0], 2), size)
        # Number of failures over all draws of n of the documents: add one document at a time.
        ways = np.zeros((n + 1, n + 1))  # by documents drawn and failures
        ways[0, 0] = 1.0
        for p in chance:
            more = ways[:-1] * (1 - p)
            more[:, 1:] += ways[:-1, :-1] * p
            ways[1:] += more
        probabilities = ways[n] / ways[n].sum()
        mean = float(probabilities @ np.arange(n + 1))
        assert mean == pytest.approx(n * chance.mean())
        for delta in DELTAS:
            uppers = np.array([upper_of(k, n, delta) for k in range(n + 1)])
            assert violation(uppers, probabilities, chance.mean()) <= delta * (1 + 1e-9)
