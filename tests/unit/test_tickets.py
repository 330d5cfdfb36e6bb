"""Selectors, and the files they leave."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ks_2samp

from ks_lottery import Attribution, Tickets, UserError, select, select_by_attribution
from ks_lottery.tickets.tickets import select_by_occurrence, select_random


def pvalue(k: int, d: int = 64) -> float:
    return float(ks_2samp(np.arange(d), np.arange(d) + k - 0.5 if k else np.arange(d)).pvalue)


def test_tickets_are_the_rows_with_p_below_alpha(make_scan):
    counts = [0, 5, 15, 16, 40, 15, 64]
    scan = make_scan(counts, 64)
    for alpha in (0.01, 0.05, 0.3, 0.9):
        wanted = {row for row, k in enumerate(counts) if pvalue(k) < alpha}
        assert set(select(scan, alpha=alpha).rows.tolist()) == wanted, alpha


def test_the_bounds_of_alpha(make_scan):
    scan = make_scan([0, 64, 3], 64)
    assert len(select(scan, alpha=0)) == 0
    assert select(scan, alpha=1).rows.tolist() == [1, 2, 0]  # every row by definition, also the one that did not move


def test_order_is_by_p_then_by_row(make_scan):
    tickets = select(make_scan([40, 64, 40, 64], 64))
    assert tickets.rows.tolist() == [1, 3, 0, 2]
    assert tickets.ids.tolist() == [0, 1, 2, 3]
    assert [s["pvalue"] for s in tickets.scores] == pytest.approx([pvalue(64)] * 2 + [pvalue(40)] * 2, rel=1e-9)


def test_tickets_survive_the_disk(make_scan, tmp_path):
    tickets = select(make_scan([40, 64, 40], 64))
    tickets.save(tmp_path / "tickets.json", ["'a'", "'\\n'", "'ü'"])
    again = Tickets.open(tmp_path / "tickets.json")
    assert again.rows.tolist() == tickets.rows.tolist()
    assert list(again.scores) == list(tickets.scores)
    assert again.rule == tickets.rule
    assert "'ü'" in (tmp_path / "tickets.json").read_text(encoding="utf-8")


def test_random_rows_are_seeded_and_from_the_pool():
    pool = np.arange(100, 200)
    one, two, other = (select_random(pool, 30, seed=s, reachable=True).rows for s in (0, 0, 1))
    assert one.tolist() == two.tolist() != other.tolist()
    assert len(set(one.tolist())) == 30
    assert set(one.tolist()) <= set(pool.tolist())
    assert len(select_random(pool, 500, seed=0, reachable=True)) == 100


def test_random_rows_are_drawn_evenly():
    pool = np.arange(20)
    counts = np.zeros(20)
    for seed in range(4000):
        counts[select_random(pool, 5, seed=seed, reachable=False).rows] += 1
    assert counts == pytest.approx(np.full(20, 1000), abs=5 * (4000 * 0.25 * 0.75) ** 0.5)


def test_occurrence_counts_and_breaks_ties_downward():
    tickets = select_by_occurrence({3: 2, 5: 9, 7: 2, 8: 50}, np.array([3, 5, 6, 7]), 3)
    assert tickets.rows.tolist() == [5, 3, 7]
    assert [s["occurrences"] for s in tickets.scores] == [9, 2, 2]


def test_power_says_why_nothing_was_found(make_scan):
    power = make_scan([0, 3, 5], 64).power(0.05)
    assert power["rows_passing"] == 0
    assert power["rows_moved"] == 2
    assert power["largest_statistic"] == 5 / 64
    assert pvalue(round(power["critical_statistic"] * 64)) < 0.05 <= pvalue(round(power["critical_statistic"] * 64) - 1)


def test_rows_by_what_they_contributed():
    """Ties go to the lower row; a row that raised the loss comes last."""
    scores = {"lca": np.array([0.1, 0.5, -0.2, 0.5]), "gradient": np.array([4.0, 1.0, 9.0, 2.0])}
    known = Attribution(np.array([3, 5, 8, 9]), scores, np.array([7, 1, 2, 3]), {"base": {"name": "x"}})
    tickets = select_by_attribution(known, "lca", 4)
    assert tickets.rows.tolist() == [5, 9, 3, 8]
    assert [s["occurrences"] for s in tickets.scores] == [1, 3, 7, 2]
    assert select_by_attribution(known, "gradient", 2).rows.tolist() == [8, 3]
    assert select_by_attribution(known, "lca", 0).rows.tolist() == []
    assert select_by_attribution(known, "lca", 9).rows.tolist() == [5, 9, 3, 8]
    without = Attribution(known.ids, {"gradient": scores["gradient"]}, known.occurrences)
    with pytest.raises(UserError, match="no lca, only gradient"):
        select_by_attribution(without, "lca", 2)
    with pytest.raises(UserError, match="0 or more"):
        select_by_attribution(known, "lca", -1)


def test_an_attribution_survives_the_disk(tmp_path):
    scores = {"lca": np.array([0.1, 1 / 3]), "gradient": np.array([4.0, 1e-300])}
    known = Attribution(np.array([3, 5]), scores, np.array([7, 1]), {"patch": "abc"}, {"seed": 0})
    again = Attribution.open(known.save(tmp_path).parent)
    assert again.ids.tolist() == [3, 5]
    assert {name: again.scores[name].tolist() for name in again.scores} == {k: v.tolist() for k, v in scores.items()}
    assert again.occurrences.tolist() == [7, 1]
    assert (again.made_from, again.settings) == ({"patch": "abc"}, {"seed": 0})
    first = (tmp_path / "attribution.parquet").read_bytes()
    known.save(tmp_path)
    assert (tmp_path / "attribution.parquet").read_bytes() == first
