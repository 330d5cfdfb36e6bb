"""`ks_counts` and `ks_test` against `scipy.stats.ks_2samp`, row by row.

Must never compare with anything of our own: SciPy is the reference.
"""

from __future__ import annotations

import math
import warnings
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import ks_2samp

from ks_lottery.stats import ks
from ks_lottery.stats.ks import ks_counts
from ks_lottery.stats.two_sample import ks_test

QUICK = settings(deadline=None, derandomize=True, max_examples=60)


def reference(a: Any, b: Any, method: str) -> tuple[float, float]:
    """Return SciPy's statistic and p; p is NaN where SciPy's own rounding made it warn and change method."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = ks_2samp(a, b, method=method)
    return float(result.statistic), (math.nan if caught else float(result.pvalue))


def agree(a: Any, b: Any, method: str = "auto") -> None:
    """Hold every row of (..., d) against SciPy."""
    result, counts = ks_test(a, b, method=method), ks_counts(a, b)
    with mock.patch.object(ks, "SMALL", 0):  # small inputs are sorted; the compiled loops must agree
        np.testing.assert_array_equal(ks_counts(a, b), counts)
    with mock.patch.object(ks, "GPUS", ("cpu",)):  # what a GPU does, on this processor
        np.testing.assert_array_equal(ks_counts(torch.as_tensor(a), torch.as_tensor(b)), counts)
    x, y = (v.to(torch.float64).numpy() if isinstance(v, torch.Tensor) else v for v in (a, b))
    d = x.shape[-1]
    assert counts.shape == x.shape[:-1]
    assert counts.dtype == np.int64
    for row in np.ndindex(*x.shape[:-1]):
        statistic, p = reference(x[row], y[row], method)
        count = int(counts[row])
        assert count == round(statistic * d)
        assert count == int(np.asarray(result.count)[row])
        assert float(np.asarray(result.statistic)[row]) == count / d
        ours = float(np.asarray(result.pvalue)[row])
        log_ours = float(np.asarray(result.log_pvalue)[row])
        if math.isnan(p):
            assert ours == pytest.approx(1.0, abs=1e-12)
        elif p >= 1e-300:
            assert ours == pytest.approx(p, rel=1e-9, abs=0)
            assert log_ours == pytest.approx(math.log(p), rel=1e-9, abs=1e-9)
        else:
            assert ours < 1.01e-300


@QUICK
@given(st.data())
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_any_floats(dtype: type, data: st.DataObject) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=6))
    # Few distinct values, so that ties within and between the samples are the rule.
    values = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 1e-7, -1e-7, math.inf, -math.inf])
    anything = hnp.from_dtype(np.dtype(dtype), allow_nan=False)
    elements = data.draw(st.sampled_from([values.map(dtype), anything]))
    a, b = (data.draw(hnp.arrays(dtype, shape, elements=elements)) for _ in range(2))
    agree(a, b)


WIDTHS = [1, 2, 3, 4, 5, 7, 16, 60, 576]
CASES = [(d, method) for d in WIDTHS for method in ("auto", "exact", "asymp")]


@pytest.mark.parametrize(("d", "method"), [case for case in CASES if case != (1, "asymp")])  # SciPy: NaN; here: refused
def test_widths(d: int, method: str) -> None:
    generator = np.random.default_rng(d)
    a = generator.normal(size=(8, d)).astype(np.float32)
    b = (a * generator.normal(1.0, np.linspace(0.0, 2.0, 8)[:, None], size=a.shape)).astype(np.float32)
    b[1] = a[1] + 100
    agree(a, b, method)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.float8_e4m3fn])
def test_tensors(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(3, 4, 50, generator=generator)
    b = a + 0.3 * torch.randn(a.shape, generator=generator)
    a, b = a.to(dtype), b.to(dtype)
    agree(a, b)
    agree(a[0, 0], b[0, 0])
    agree(a.float().requires_grad_().detach(), b)
    np.testing.assert_array_equal(ks_counts(torch.nn.Parameter(a.double()), b), ks_counts(a, b))


def test_mixed_dtypes_are_promoted() -> None:
    a = np.array([[0.1, 0.2, 0.3]], dtype=np.float32)
    b = a.astype(np.float64)
    agree(a, b)
    agree(a, np.array([[0.1, 0.2, 0.3]]))  # 0.1 in float32 is not 0.1 in float64
    agree(a.astype(np.float16), a)
    np.testing.assert_array_equal(ks_counts(a.astype(np.longdouble), b), [0])
    np.testing.assert_array_equal(ks_counts(torch.from_numpy(a), b), [0])
    np.testing.assert_array_equal(ks_counts(a.astype(">f4"), b), [0])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
def test_edges(dtype: type) -> None:
    inf = math.inf
    a = np.array([[0.0, 0.0, 0.0], [-0.0, 0.0, 1.0], [2.0, 2.0, 2.0], [inf, -inf, 0.0], [-inf, -inf, inf]], dtype)
    b = np.array([[-0.0, -0.0, 0.0], [0.0, -0.0, 1.0], [3.0, 3.0, 3.0], [inf, inf, 0.0], [inf, -inf, -inf]], dtype)
    np.testing.assert_array_equal(ks_counts(a, b), [0, 0, 3, 1, 0])
    if dtype is not np.longdouble:
        agree(a, b)


def test_transposed_and_strided_views() -> None:
    values = np.random.default_rng(0).normal(size=(2, 40, 12)).astype(np.float32).round(1)
    agree(values[0].T, values[1].T)
    agree(values[0, ::3, ::2], values[1, ::3, ::2])
    agree(torch.from_numpy(values[0]).T, torch.from_numpy(values[1]).T)


@pytest.mark.parametrize(("d", "method"), [(10_000, "auto"), (10_001, "auto"), (20_000, "auto"), (20_000, "exact")])
def test_large_widths(d: int, method: str) -> None:
    generator = np.random.default_rng(d)
    a = np.tile(generator.normal(size=d), (5, 1))
    b = a + np.array([[0.0], [0.01], [0.05], [0.4], [9.0]]) * (1 + generator.random(a.shape))
    agree(a.astype(np.float32), b.astype(np.float32), method)
    agree(a[1:2], b[1:2], method)


def test_a_width_beyond_16_bits() -> None:
    a = np.random.default_rng(0).normal(size=40_000).astype(np.float32)
    agree(a, a + 9)
    agree(a, a + np.float32(0.02))


def hard_rows(d: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows that defeat a simple bucketing: outliers, spikes, ties, constants, infinities, subnormals, huge values."""
    generator = np.random.default_rng(d)
    normal = generator.normal(size=d)
    outlier = normal.copy()
    outlier[::97] = 1e30
    spike = np.where(generator.random(d) < 0.9, 1.0 + 1e-6 * normal, normal)
    rows = [
        (normal, normal + 0.05),
        (outlier, outlier * 1.01),
        (spike, spike + 1e-7),
        (np.round(normal), np.round(normal * 1.1)),
        (np.ones(d), np.full(d, 2.0)),
        (np.where(normal > 1, np.inf, normal), np.where(normal > 0.9, np.inf, normal)),
        (np.where(normal > 0, np.inf, -np.inf), np.where(normal > 0.1, np.inf, -np.inf)),
        (normal * 1e-40, normal * 1.2e-40),
        (normal * 3e37, normal * 2e37),
        (np.where(normal > 0, 0.0, -0.0), np.zeros(d)),
        (normal, normal),
        (np.exp(8 * normal), np.exp(8.2 * normal)),
        (np.sign(normal) * 1e-3, normal * 1e-3),
    ]
    return np.stack([a for a, _ in rows]), np.stack([b for _, b in rows])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("d", [7, 64, 576, 4096])
def test_compiled_loops_on_hard_rows(d: int, dtype: str) -> None:
    a, b = (torch.from_numpy(x).clamp(-6e4, 6e4) if dtype == "float16" else torch.from_numpy(x) for x in hard_rows(d))
    a, b = a.to(getattr(torch, dtype)), b.to(getattr(torch, dtype))
    with mock.patch.object(ks, "SMALL", 0):
        counts = ks_counts(a, b)
    with mock.patch.object(ks, "GPUS", ("cpu",)):
        np.testing.assert_array_equal(ks_counts(a, b), counts)
    for row, count in enumerate(counts):
        x, y = a[row].double().numpy(), b[row].double().numpy()
        assert count == round(reference(x, y, "asymp")[0] * d), row


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_on_a_gpu(dtype: str) -> None:
    a, b = (torch.from_numpy(x).clamp(-6e4, 6e4).to(getattr(torch, dtype)) for x in hard_rows(4096))
    np.testing.assert_array_equal(ks_counts(a.cuda(), b.cuda()), ks_counts(a, b))


@pytest.mark.parametrize("devices", [(), ("cpu",)])
def test_rows_with_nan_are_named(devices: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ks, "GPUS", devices)
    for dtype in (torch.bfloat16, torch.float16, torch.float32, torch.float64):
        a = torch.zeros(300, 400, dtype=dtype)
        b = torch.ones(300, 400, dtype=dtype)
        b[17, 399] = torch.nan
        a[250, 0] = torch.nan
        with pytest.raises(ValueError, match="2 of 300 rows hold NaN.*: 17, 250"):
            ks_counts(a, b)
