"""What `ks_counts` and `ks_test` refuse, and how they say it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from ks_lottery.stats.ks import ks_counts
from ks_lottery.stats.two_sample import ks_test


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
def test_nan_rows_are_named(dtype: type) -> None:
    a, b = np.zeros((10, 4), dtype), np.zeros((10, 4), dtype)
    a[3, 1] = b[3, 0] = b[7, 2] = np.nan
    with pytest.raises(ValueError, match=r"^2 of 10 rows hold NaN.*: 3, 7$"):
        ks_counts(a, b)
    # A row that is bitwise equal in both is not excused.
    a[:, 0] = b[:, 0] = np.nan
    with pytest.raises(ValueError, match=r"^10 of 10 rows hold NaN.*: 0, 1, 2, 3, 4, \.\.\.$"):
        ks_counts(a, b)


def test_nan_in_a_batch_and_in_one_sample() -> None:
    a = np.zeros((2, 3, 4))
    a[1, 2, 0] = np.nan
    with pytest.raises(ValueError, match=r"1 of 6 rows hold NaN.*: \(1, 2\)$"):
        ks_counts(np.zeros_like(a), a)
    with pytest.raises(ValueError, match="a sample holds NaN"):
        ks_test(a[1, 2], a[0, 0])
    with pytest.raises(ValueError, match="1 of 3 rows"):
        ks_counts(torch.from_numpy(a[1]).to(torch.bfloat16), torch.zeros(3, 4))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.zeros((2, 3)), np.zeros((2, 4))),
        (np.zeros((2, 3)), np.zeros(3)),
        (np.zeros((2, 0)), np.zeros((2, 0))),
        (np.float64(1.0), np.float64(2.0)),
        (torch.zeros(2, 3), torch.zeros(3, 2)),
        (torch.tensor(0.0), torch.tensor(0.0)),
    ],
)
def test_shapes(a: object, b: object) -> None:
    with pytest.raises(ValueError, match="shape"):
        ks_counts(a, b)


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((2, 3), int),
        np.zeros((2, 3), bool),
        np.zeros((2, 3), complex),
        torch.zeros(2, 3).int(),
        [["a"]],
    ],
)
def test_dtypes(bad: object) -> None:
    with pytest.raises(TypeError, match=r"sample a must be of a floating-point dtype"):
        ks_counts(bad, np.zeros((2, 3)))
    with pytest.raises(TypeError, match="sample b"):
        ks_counts(np.zeros((2, 3)), bad)


def test_method() -> None:
    with pytest.raises(ValueError, match="method"):
        ks_test(np.zeros(3), np.zeros(3), method="fast")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least two values"):
        ks_test(np.zeros(1), np.ones(1), method="asymp")


def test_no_rows_and_plain_lists() -> None:
    for dtype in (np.float32, np.float64):
        assert ks_counts(np.zeros((0, 3), dtype), np.zeros((0, 3), dtype)).shape == (0,)
    assert ks_test(np.zeros((2, 0, 3)), np.zeros((2, 0, 3))).pvalue.shape == (2, 0)
    assert ks_counts([0.0, 1.0], [2.0, 3.0]) == 2
    assert ks_test([0.0, 1.0], [2.0, 3.0]).count == 2


def test_one_sample_gives_scalars() -> None:
    result = ks_test(np.zeros(3), np.ones(3))
    assert isinstance(result.count, np.int64)
    assert all(isinstance(value, float) for value in (result.statistic, result.pvalue, result.log_pvalue))


def test_inputs_are_left_alone() -> None:
    a, b = np.array([[3.0, 1.0, -0.0]], np.float32), np.array([[2.0, 1.0, 0.0]], np.float32)
    before = a.tobytes(), b.tobytes()
    a.flags.writeable = b.flags.writeable = False
    ks_counts(a, b)
    assert (a.tobytes(), b.tobytes()) == before


def test_neither_torch_nor_scipy_is_imported() -> None:
    code = (
        "import sys, numpy as np; from ks_lottery.stats.two_sample import ks_test; import ks_lottery.stats.intervals;"
        "ks_test(np.zeros((2, 3)), np.ones((2, 3)));"
        "sys.exit(sum(name in sys.modules for name in ('torch', 'scipy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
