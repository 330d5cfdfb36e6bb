"""A scan: what its power says, and what it shows."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ks_2samp

from ks_lottery import UserError


def pvalue(k: int, d: int = 64) -> float:
    return float(ks_2samp(np.arange(d), np.arange(d) + k - 0.5 if k else np.arange(d)).pvalue)


def test_power_says_why_nothing_was_found(make_scan):
    power = make_scan([0, 3, 5], 64).power(0.05)
    assert power["rows_passing"] == 0
    assert power["rows_moved"] == 2
    assert power["largest_statistic"] == 5 / 64
    assert pvalue(round(power["critical_statistic"] * 64)) < 0.05 <= pvalue(round(power["critical_statistic"] * 64) - 1)


def test_its_table_is_the_rows_that_moved_by_ascending_p(make_scan):
    scan = make_scan([0, 30, 64, 5], 64)
    tokens = ["'<pad>'", "'[/INST]'", "'b'", "'c'"]
    (table, text) = scan.sections(0.05, top=2, tokens=tokens)
    assert [row[:3] for row in table.rows] == [[2, "'b'", 64], [1, "'[/INST]'", 30]]
    assert [column.title for column in table.columns][:5] == ["row", "token", "k", "D", "p"]
    assert text.sentences[0] == "4 units of 1 tensor, compared as float32; 3 moved."
    assert "2 pass p < 0.05" in text.sentences[1]
    assert len(scan.sections(0.05, top=10)[0].rows) == 3
    with pytest.raises(UserError, match="top is -1, but must be 0 or more"):
        scan.sections(0.05, top=-1)
    with pytest.raises(UserError, match="alpha is 2, but must be from 0 to 1"):
        scan.sections(2)
