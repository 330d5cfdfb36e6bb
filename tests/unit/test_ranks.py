"""Average ranks, against SciPy."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import rankdata

from ks_lottery.stats.ranks import average_ranks, rank_fraction

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    "score",
    [
        RNG.integers(0, 9, 50).astype(float),
        RNG.normal(size=1000),
        np.array([0.0, -0.0, np.inf, -np.inf, np.inf, 5.0, 5.0]),
        np.full(7, 3.0),
        np.array([1.0]),
        np.empty(0),
    ],
)
def test_ranks_are_those_of_scipy(score):
    np.testing.assert_array_equal(average_ranks(score), rankdata(-score))
    np.testing.assert_array_equal(rank_fraction(score) * len(score), rankdata(-score))


def test_scores_that_are_not_defined_have_no_rank():
    score = np.array([np.nan, 2.0, np.nan, 2.0, 7.0])
    np.testing.assert_array_equal(average_ranks(score), [np.nan, 2.5, np.nan, 2.5, 1.0])
    assert np.isnan(average_ranks(np.full(3, np.nan))).all()


def test_a_scan_is_saved_without_scipys_statistics(tmp_path):
    """Their import would take most of a second of every scan."""
    code = f"""
import sys
import numpy as np
from pathlib import Path
from ks_lottery.tickets.scan import Part, Scan
part = Part(tensor="w", start=0, count=2, width=4, compared_as="float32")
names = ("distance", "largest", "spread", "cos", "absolute", "absolute_signed", "relative", "kl")
columns = {{name: np.ones(2) for name in names}}
whole = {{name: np.ones(2, dtype=np.int64) for name in ("counts", "moved", "zeros")}}
Scan(parts=(part,), **whole, **columns, made_from={{}}, settings={{}}).save(Path({str(tmp_path / "scan.parquet")!r}))
sys.exit("scipy.stats" in sys.modules or "torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert (tmp_path / "scan.parquet").is_file()
