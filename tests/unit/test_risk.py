"""Risk bounds: what they promise at the edges, and the input they refuse."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from ks_lottery.stats.risk import (
    binomial_pvalue,
    clopper_pearson_upper,
    fixed_sequence,
    hoeffding_bentkus_pvalue,
    hoeffding_bentkus_upper,
    smallest_n,
)


@pytest.mark.parametrize("epsilon", [0.01, 0.05, 0.1, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("delta", [0.001, 0.05, 0.1, 0.25, 0.5, 0.9])
def test_smallest_n_by_trying(epsilon: float, delta: float) -> None:
    n = next(n for n in range(1, 2000) if (1 - Fraction(epsilon)) ** n <= Fraction(delta))
    assert smallest_n(epsilon, delta) == n
    # And it is the first that can pass, by either test and either bound.
    for pvalue in (binomial_pvalue, hoeffding_bentkus_pvalue):
        assert pvalue(0, n, epsilon) <= delta
        assert n == 1 or pvalue(0, n - 1, epsilon) > delta
    for upper in (clopper_pearson_upper, hoeffding_bentkus_upper):
        assert upper(0, n, delta) <= epsilon * (1 + 1e-9)
        assert n == 1 or upper(0, n - 1, delta) > epsilon


def test_smallest_n_of_the_documents() -> None:
    assert smallest_n(0.05, 0.05) == 59 == math.ceil(math.log(0.05) / math.log(0.95))
    assert smallest_n(1e-6, 0.05) == math.ceil(math.log(0.05) / math.log1p(-1e-6))


@pytest.mark.parametrize("n", [1, 3, 60])
def test_pvalues_fall_in_epsilon_and_rise_in_loss(n: int) -> None:
    epsilon = np.linspace(0.001, 0.999, 400)
    total = np.linspace(0, n, 60)
    p = hoeffding_bentkus_pvalue(total[:, None], n, epsilon)
    assert ((p > 0) & (p <= 1)).all()
    assert (np.diff(p, axis=1) <= 1e-12).all()
    assert (np.diff(p, axis=0) >= -1e-12).all()
    assert (p[total[:, None] / n >= epsilon] == 1.0).all()


def test_upper_bounds_are_above_what_was_seen_and_reject() -> None:
    total = np.linspace(0.0, 100.0, 301)
    upper = hoeffding_bentkus_upper(total, 100, 0.05)
    assert (upper >= total / 100).all()
    assert (np.diff(upper) >= 0).all()
    assert upper[-1] == 1.0
    below = upper < 1.0
    assert (hoeffding_bentkus_pvalue(total[below], 100, upper[below]) <= 0.05).all()


def test_a_whole_sum_with_a_rounding_error_is_taken_as_whole() -> None:
    for wrong in (np.nextafter(3.0, 4.0), 3.0 - 1e-12, 3.0 + 1e-12):
        assert hoeffding_bentkus_pvalue(wrong, 50, 0.2) == hoeffding_bentkus_pvalue(3.0, 50, 0.2)
    assert hoeffding_bentkus_pvalue(3.001, 50, 0.2) > hoeffding_bentkus_pvalue(3.0, 50, 0.2)
    assert hoeffding_bentkus_pvalue(np.nextafter(50.0, 51.0), 50, 0.2) == 1.0


def test_fixed_sequence_stops() -> None:
    assert fixed_sequence([0.01, 0.05, 0.051, 0.0], 0.05).tolist() == [0, 1]
    assert fixed_sequence([0.06, 0.0], 0.05).tolist() == []
    assert fixed_sequence([], 0.05).tolist() == []
    assert fixed_sequence([0.0, 0.0], 0.05).tolist() == [0, 1]


@pytest.mark.parametrize("call", [binomial_pvalue, hoeffding_bentkus_pvalue])
@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((-1, 10, 0.1), "sum of the losses"),
        ((11, 10, 0.1), "sum of the losses"),
        ((math.nan, 10, 0.1), "sum of the losses"),
        ((0, 0, 0.1), "number of units"),
        ((0, 2.5, 0.1), "number of units"),
        ((0, 10, 0.0), "epsilon"),
        ((0, 10, 1.0), "epsilon"),
        ((0, 10, math.nan), "epsilon"),
    ],
)
def test_pvalues_refuse(call: object, arguments: tuple[float, ...], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        call(*arguments)  # type: ignore[operator]


@pytest.mark.parametrize("delta", [0.0, 1.0, -0.1, math.nan])
def test_delta_is_a_probability(delta: float) -> None:
    for call in (
        lambda: clopper_pearson_upper(0, 5, delta),
        lambda: hoeffding_bentkus_upper(0, 5, delta),
        lambda: smallest_n(0.1, delta),
        lambda: fixed_sequence([0.1], delta),
    ):
        with pytest.raises(ValueError, match="delta"):
            call()


def test_other_refusals() -> None:
    for call in (binomial_pvalue, clopper_pearson_upper):
        with pytest.raises(ValueError, match="whole"):
            call(0.5, 5, 0.1)
    with pytest.raises(ValueError, match="epsilon"):
        smallest_n(1.0, 0.1)
    with pytest.raises(ValueError, match="p-values"):
        fixed_sequence([0.1, 1.5], 0.1)
