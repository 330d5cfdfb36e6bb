"""Selectors: rows from a scan, an attribution, a text or a seed, against their definitions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import ks_2samp, rankdata

from ks_lottery import Attribution, Scan, Tickets, UserError, select, select_by_attribution
from ks_lottery.config.choices import SELECTORS as CHOICES
from ks_lottery.corpus.batches import Example
from ks_lottery.store.files import read_table, write_table
from ks_lottery.tickets.selectors import SELECTORS, Basis, select_rows


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
    assert len(select(scan, alpha=0, allow_empty=True)) == 0
    assert select(scan, alpha=1).rows.tolist() == [1, 2, 0]  # every row by definition, also the one that did not move


def test_order_is_by_p_then_by_row(make_scan):
    tickets = select(make_scan([40, 64, 40, 64], 64))  # rows of one count moved equally far here
    assert tickets.rows.tolist() == [1, 3, 0, 2]
    assert tickets.ids.tolist() == [0, 1, 2, 3]
    assert [s["pvalue"] for s in tickets.scores] == pytest.approx([pvalue(64)] * 2 + [pvalue(40)] * 2, rel=1e-9)


def test_ties_of_p_go_to_the_row_that_moved_farther(make_scan):
    scan = replace(make_scan([40, 64, 40, 64, 40, 3], 64), distance=np.array([0.2, 0.1, 0.7, 0.1, 0.7, 9.0]))
    wanted = [1, 3, 2, 4, 0, 5]
    for size in range(1, 7):
        assert select(scan, top_k=size).rows.tolist() == wanted[:size]
    assert select(scan, alpha=0.05).rows.tolist() == wanted[:5]
    assert select(scan, interval=(0.0, 1.0)).rows.tolist() == wanted
    assert [row["row"] for row in scan.top(6)] == wanted


def test_absolute_keeps_its_sign_on_request(make_scan):
    scan = replace(make_scan([9, 9, 0, 9], 64), absolute_signed=np.array([-0.5, 0.1, 0.0, 0.3]))
    assert select(scan, top_k=4, by="absolute-signed").rows.tolist() == [3, 1, 2, 0]
    assert scan.rank("absolute-signed").tolist() == [1.0, 0.5, 0.75, 0.25]


def test_a_scan_that_was_saved_without_the_signed_score_is_still_read(make_scan, tmp_path):
    make_scan([9, 3], 64).save(tmp_path / "scan.parquet")
    columns, about = read_table(tmp_path / "scan.parquet", "scan")
    write_table(tmp_path / "old.parquet", {k: v for k, v in columns.items() if "signed" not in k}, about)
    scan = Scan.open(tmp_path / "old.parquet")
    assert select(scan, top_k=1).rows.tolist() == [0]
    with pytest.raises(UserError, match="no absolute-signed of any row: scan again"):
        select(scan, top_k=1, by="absolute-signed")


def reachable(by: str, pool, size: int | None = None, seed: int = 0, **more) -> Tickets:
    return select_rows(by, Basis(vocabulary=1000, size=size, seed=seed, reachable=lambda: np.array(pool), **more))


def test_the_names_are_those_of_the_choices():
    assert list(SELECTORS) == list(CHOICES)


def test_random_rows_are_seeded_and_from_the_pool():
    pool = range(100, 200)
    one, two, other = (reachable("random-reachable", pool, 30, seed).rows for seed in (0, 0, 1))
    assert one.tolist() == two.tolist() != other.tolist()
    assert len(set(one.tolist())) == 30
    assert set(one.tolist()) <= set(pool)
    assert len(reachable("random-reachable", pool, 500)) == 100


def test_random_rows_are_drawn_evenly():
    counts = np.zeros(20)
    for seed in range(4000):
        counts[select_rows("random", Basis(vocabulary=20, size=5, seed=seed)).rows] += 1
    assert counts == pytest.approx(np.full(20, 1000), abs=5 * (4000 * 0.25 * 0.75) ** 0.5)


def test_occurrence_counts_and_breaks_ties_downward():
    tokens = [3] * 2 + [5] * 9 + [7] * 2 + [8] * 50
    examples = [Example(tokens[:20], tokens[20:30]), Example(tokens[30:], [])]
    tickets = reachable("occurrence", [3, 5, 6, 7], 3, examples=lambda: examples)
    assert tickets.rows.tolist() == [5, 3, 7]
    assert [s["occurrences"] for s in tickets.scores] == [9, 2, 2]


def test_frequency_counts_the_whole_vocabulary():
    counts = {4: 7, 1: 7, 2: 1, 0: 0}
    tickets = select_rows("frequency", Basis(vocabulary=6, size=4, frequencies=counts))
    assert tickets.rows.tolist() == [1, 4, 2, 0]
    every = [counts.get(row, 0) for row in range(6)]
    assert [s["rank"] for s in tickets.scores] == (rankdata(np.negative(every)) / 6)[tickets.rows].tolist()


def test_rows_of_the_methods_that_take_tickets():
    tickets = Tickets(rows=np.array([9, 2, 5]), rule={"selector": "test"})
    assert reachable("reachable", [1, 2, 5, 9]).rows.tolist() == [1, 2, 5, 9]
    assert reachable("tickets", [], tickets=tickets) is tickets
    assert reachable("all-but-tickets", [1, 2, 5, 9], tickets=tickets).rows.tolist() == [1]
    assert reachable("all-but-tickets", [1, 2, 5, 9], 2, tickets=tickets).rows.tolist() == [1, 5]
    with pytest.raises(UserError, match="row 9, but the embedding has 9 rows"):
        select_rows("tickets", Basis(vocabulary=9, tickets=tickets))


@pytest.mark.parametrize("by", [name for name in CHOICES if name != "random"])
def test_what_is_missing_is_named(by):
    with pytest.raises(UserError, match="needs"):
        select_rows(by, Basis(vocabulary=10, size=None if by in ("reachable", "tickets", "all-but-tickets") else 3))


@pytest.mark.parametrize(
    "by", ["kl", "frequency", "occurrence", "random", "random-reachable", "lca", "gradient", "template"]
)
def test_rankings_need_a_number_of_rows(by, make_scan):
    scan = make_scan([0, 5], 64)
    with pytest.raises(UserError, match=f"rows ranked by {by} have no p-value: give `top_k`"):
        select_rows(by, Basis(vocabulary=2, alpha=0.5, scan=scan))
    with pytest.raises(UserError, match="top_k is -1, but must be 0 or more"):
        select_rows(by, Basis(vocabulary=2, size=-1, scan=scan))


def test_what_is_out_of_range_is_refused(make_scan):
    scan = make_scan([0, 5], 64)
    for call, message in (
        ({"alpha": 1.5}, "alpha is 1.5, but must be from 0 to 1"),
        ({"alpha": float("nan")}, "alpha is nan"),
        ({"interval": (0.5, 0.1)}, "`interval` 0.5 0.1: LOW must be below HIGH, both from 0 to 1"),
        ({"top_k": -1}, "top_k is -1"),
        ({"top_k": 1, "alpha": 0.5}, "one of `alpha`, `interval` and `top_k`, not `alpha` and `top_k`"),
        ({"top_k": 1, "by": "lca"}, "score lca is not known"),
    ):
        with pytest.raises(UserError, match=message):
            select(scan, **call)
    with pytest.raises(UserError, match="selector nope is not known"):
        select_rows("nope", Basis(vocabulary=2))


def test_rows_by_what_they_contributed():
    """Ties go to the lower row; a row that raised the loss comes last."""
    scores = {"lca": np.array([0.1, 0.5, -0.2, 0.5]), "gradient": np.array([4.0, 1.0, 9.0, 2.0])}
    known = Attribution(
        ids=np.array([3, 5, 8, 9]), scores=scores, occurrences=np.array([7, 1, 2, 3]), made_from={"base": {"name": "x"}}
    )
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


def test_rows_that_one_pass_measures_are_measured_when_they_are_asked_for():
    scores = {"gradient": np.array([4.0, 1.0, 9.0]), "gradient-sum": np.array([1.0, 3.0, 2.0])}
    known = Attribution(np.array([3, 5, 8]), scores, np.array([7, 1, 2]), settings={"measured": "x", "batch_size": 4})
    calls = []

    def gradients():
        calls.append(1)
        return known

    basis = Basis(vocabulary=9, size=2, gradients=gradients)
    assert select_rows("gradient-sum", basis).rows.tolist() == [5, 8]
    assert select_rows("gradient", basis).rows.tolist() == [8, 3]
    assert select_rows("gradient", basis).rule == {"selector": "gradient", "size": 2, "measured": "x", "batch_size": 4}
    assert len(calls) == 3
    with pytest.raises(UserError, match="lca needs `attribution`"):  # no pass tells it
        select_rows("lca", basis)
    assert len(calls) == 3
    recorded = Attribution(known.ids, {"lca": scores["gradient"], "gradient": scores["gradient"]}, known.occurrences)
    with pytest.raises(UserError, match="has no gradient-sum, only lca, gradient: one pass over a text measures it"):
        select_by_attribution(recorded, "gradient-sum", 2)


def test_template_rows_are_ranked_by_their_count_in_the_examples():
    """Row 4 occurs most but is not of the template; row 9 is, and cannot be reached; there are no more than there are."""
    examples = [
        Example((1, 4, 4, 2, 9), (4, 2), in_source=(False, True, True, False, False)),
        Example((1, 4, 3), (2, 6), in_source=(False, True, False)),
    ]
    basis = Basis(vocabulary=10, size=9, examples=lambda: examples, reachable=lambda: np.array([1, 2, 3, 4, 6]))
    tickets = select_rows("template", basis)
    assert tickets.rows.tolist() == [2, 1, 3]
    assert [s["occurrences"] for s in tickets.scores] == [3, 2, 1]
    assert select_rows("template", replace(basis, size=1)).rows.tolist() == [2]
    with pytest.raises(UserError, match="needs to know which tokens of a prompt are the source"):
        select_rows("template", replace(basis, examples=lambda: [Example((1, 4), (2,))]))


@pytest.mark.parametrize(
    "by", ["ks", "kl", "occurrence", "template", "random", "random-reachable", "gradient-sum", "frequency"]
)
def test_rows_without_those_of_the_template_are_the_first_of_the_others(make_scan, by):
    template = {1, 2, 3}
    examples = [Example((1, 4, 4, 2, 9), (4, 2, 6), in_source=(False, True, True, False, True))]
    examples.append(Example((1, 4, 3), (2, 6, 7), in_source=(False, True, False)))
    score = np.array([0.1, 5.0, 9.0, 0.3, 2.0, 4.0])
    basis = Basis(
        vocabulary=10, size=3, seed=4, scan=make_scan([3, 60, 50, 9, 40, 30, 20, 10, 8, 0], 64),
        attribution=Attribution(
            ids=np.array([0, 1, 2, 4, 6, 7]), scores={"gradient-sum": score}, occurrences=np.ones(6, dtype=np.int64)
        ),
        examples=lambda: examples, reachable=lambda: np.array([1, 2, 3, 4, 6, 7, 9]), frequencies={1: 9, 4: 3, 6: 5, 2: 8},
    )  # fmt: skip
    found = select_rows(by, replace(basis, without="template"))
    every = select_rows(by, replace(basis, size=10)).rows.tolist()
    assert found.rows.tolist() == [row for row in every if row not in template][:3]
    assert len(found) == (0 if by == "template" else 3)
    assert found.rule["without"] == "template"
    assert found.rule.get("top_k", found.rule.get("size")) == 3
    if not by.startswith("random"):
        assert len(found.scores) == len(found)


def test_tickets_below_alpha_without_rows_of_the_template(make_scan):
    examples = [Example((1, 4), (2,), in_source=(False, True))]
    basis = Basis(
        vocabulary=5, alpha=0.05, scan=make_scan([0, 64, 40, 3, 50], 64), examples=lambda: examples,
        reachable=lambda: np.array([1, 2, 4]), without="template",
    )  # fmt: skip
    assert select_rows("ks", basis).rows.tolist() == [4, 2]
    with pytest.raises(UserError, match="selection by template needs the training examples"):
        select_rows("ks", replace(basis, examples=None))
    with pytest.raises(UserError, match="`without` is source, but must be one of template"):
        select_rows("ks", replace(basis, without="source"))
