"""What holds for the KS count and the critical count whatever the values.

Must never share code with what it checks: the definitions here are in plain Python.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ks_lottery.stats import ks
from ks_lottery.stats.ks import ks_counts
from ks_lottery.stats.null import critical_count
from ks_lottery.stats.two_sample import ks_test

QUICK = settings(deadline=None, derandomize=True, max_examples=60)
DTYPES = st.sampled_from([np.float16, np.float32, np.float64, np.longdouble])


@st.composite
def pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Two samples of small integers, full of ties, which every dtype holds exactly."""
    dtype, d = draw(DTYPES), draw(st.integers(1, 12))
    rows = st.lists(st.integers(-4, 4), min_size=d, max_size=d)
    return np.array(draw(rows), dtype=dtype), np.array(draw(rows), dtype=dtype)


def by_definition(a: np.ndarray, b: np.ndarray) -> int:
    x, y = a.tolist(), b.tolist()
    return max(abs(sum(v <= t for v in x) - sum(v <= t for v in y)) for t in x + y)


@QUICK
@given(pairs())
def test_definition_and_symmetry(pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = pair
    assert ks_counts(a, b) == by_definition(a, b) == ks_counts(b, a) == ks_counts(-a, -b)
    assert ks_counts(a, a) == 0


@QUICK
@given(st.data(), st.sampled_from([np.float16, np.float32, np.float64]), st.integers(1, 5))
def test_definition_on_any_floats(data: st.DataObject, dtype: type, d: int) -> None:
    floats = hnp.arrays(dtype, d, elements=hnp.from_dtype(np.dtype(dtype), allow_nan=False))
    a, b = data.draw(floats), data.draw(floats)
    assert ks_counts(a, b) == by_definition(a, b)


@QUICK
@given(pairs(), st.randoms(use_true_random=False))
def test_invariance(pair: tuple[np.ndarray, np.ndarray], random: object) -> None:
    a, b = pair
    count = ks_counts(a, b)
    for rising in (lambda v: v * 3 + 1, lambda v: v**3, np.arctan, np.exp):
        assert ks_counts(rising(a), rising(b)) == count
    order = np.random.default_rng(random.randrange(2**32)).permutation(len(a))  # type: ignore[attr-defined]
    assert ks_counts(a[order], b) == ks_counts(a, b[order]) == count


@QUICK
@given(st.data(), hnp.array_shapes(min_dims=2, max_dims=4, max_side=5), DTYPES)
def test_a_batch_is_one_call_a_slice(data: st.DataObject, shape: tuple[int, ...], dtype: type) -> None:
    values = hnp.arrays(np.int8, shape, elements=st.integers(-3, 3))
    a, b = data.draw(values).astype(dtype), data.draw(values).astype(dtype)
    counts, result = ks_counts(a, b), ks_test(a, b)
    for row in np.ndindex(*shape[:-1]):
        assert counts[row] == ks_counts(a[row], b[row])
        one = ks_test(a[row], b[row])
        assert (one.count, one.statistic) == (result.count[row], result.statistic[row])
        assert (one.pvalue, one.log_pvalue) == (result.pvalue[row], result.log_pvalue[row])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_chunks_do_not_show(dtype: type, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(3)
    a = generator.integers(-9, 9, size=(50, 20)).astype(dtype)
    b = np.where(generator.random((50, 1)) < 0.5, a, generator.integers(-9, 9, size=a.shape)).astype(dtype)
    whole = ks_counts(a, b)
    monkeypatch.setattr(ks, "_CHUNK_BYTES", 16 * 20 * 7)
    np.testing.assert_array_equal(ks_counts(a, b), whole)
    monkeypatch.setattr(ks, "_CHUNK_BYTES", 1)
    np.testing.assert_array_equal(ks_counts(a, b), whole)


def exact_p(d: int, k: int) -> Fraction:
    if k == 0:
        return Fraction(1)
    terms = ((-1) ** (j - 1) * math.comb(2 * d, d - j * k) for j in range(1, d // k + 1))
    return Fraction(2 * sum(terms), math.comb(2 * d, d))


@settings(deadline=None, derandomize=True, max_examples=150)
@given(st.integers(1, 80), st.one_of(st.floats(0, 1), st.integers(1, 999).map(lambda n: n / 1000)))
def test_critical_count_is_the_smallest(d: int, alpha: float) -> None:
    # Alpha as it is written: 0.1 is one tenth, and p = 1/10 is not below it.
    written = Fraction(repr(alpha))
    below = [k for k in range(d + 1) if exact_p(d, k) < written]
    expected = 0 if alpha == 1 else min(below, default=d + 1)
    assert critical_count(d, alpha) == expected


@pytest.mark.parametrize("d", [1, 2, 3, 4, 5, 6, 8, 10, 20])
def test_alpha_equal_to_a_p_value_selects_above_it(d: int) -> None:
    for k in range(2, d + 1):
        assert critical_count(d, float(exact_p(d, k))) == k + 1


@pytest.mark.parametrize("d", [1, 2, 576, 4096])
def test_critical_count_at_the_ends(d: int) -> None:
    assert critical_count(d, 1.0) == 0
    assert critical_count(d, 0.0) == d + 1
    assert critical_count(d, math.nextafter(1.0, 0.0)) >= 1
    grid = [critical_count(d, alpha) for alpha in np.linspace(0, 1, 50)]
    assert grid == sorted(grid, reverse=True)
    for alpha in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="alpha"):
            critical_count(d, alpha)
