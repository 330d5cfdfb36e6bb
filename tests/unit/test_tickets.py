"""Tickets: their file and their set algebra."""

from __future__ import annotations

import numpy as np

from ks_lottery import Tickets, select


def test_tickets_survive_the_disk(make_scan, tmp_path):
    tickets = select(make_scan([40, 64, 40], 64))
    tickets.save(tmp_path / "tickets.json", ["'a'", "'\\n'", "'ü'"])
    again = Tickets.open(tmp_path / "tickets.json")
    assert again.rows.tolist() == tickets.rows.tolist()
    assert list(again.scores) == list(tickets.scores)
    assert again.rule == tickets.rule
    assert "'ü'" in (tmp_path / "tickets.json").read_text(encoding="utf-8")


def test_set_algebra_is_that_of_pythons_sets(make_scan):
    scan = make_scan([0, 60, 40, 50, 30], 64)
    a, b = select(scan, top_k=3), select(scan, alpha=0.001)
    assert a.rows.tolist() == [1, 3, 2]
    union, both, rest = b | a, a & b.head(2), a - b.head(2)
    assert both.rows.tolist() == [1, 3]
    assert rest.rows.tolist() == [2]
    assert set(union.rows.tolist()) == set(a.rows.tolist()) | set(b.rows.tolist())
    assert len(union.scores) == len(union)


def test_a_table_shows_what_the_selector_knew(make_scan):
    tickets = select(make_scan([40, 64, 40], 64))
    (section,) = tickets.sections({1: "'b'", 0: "'a'"}, most=2)
    assert [column.title for column in section.columns] == ["row", "token", "D", "p"]
    assert [row[:3] for row in section.rows] == [[1, "'b'", 1.0], [0, "'a'", 40 / 64]]
    (bare,) = Tickets(rows=np.array([5, 3]), rule={}).sections()
    assert bare.rows == [[5], [3]]
