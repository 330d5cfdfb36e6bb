"""Table 3: what tickets are, against SciPy and against its definitions written out."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr

from ks_lottery import Attribution, Scan, Tickets, UserError, explain, select, select_by_attribution
from ks_lottery.config.choices import SCORES
from ks_lottery.tickets.scan import Part
from ks_lottery.tickets.selectors import Basis, select_rows

BASE = {"name": "base", "fingerprint": "f" * 64}


def tickets(*rows: int, **made_from) -> Tickets:
    return Tickets(rows=np.array(rows, dtype=np.int64), rule={"selector": "test"}, made_from=made_from)


@pytest.fixture(scope="module")
def scan():
    """A scan of real rows: 60 of 90 moved, the first half of them by little."""
    rng = np.random.default_rng(0)
    k = np.concatenate([rng.integers(1, 20, 60), np.zeros(30, dtype=np.int64)])
    columns = {
        name: np.where(k > 0, rng.random(90).round(1), 0) for name in ("cos", "absolute", "absolute_signed", "kl")
    }
    columns["absolute_signed"] -= 0.4 * (k > 0)
    relative = np.where(k > 0, rng.normal(1, 1, 90), 1)
    relative[4], relative[5] = np.nan, np.inf
    plain = dict.fromkeys(("distance", "largest", "spread"), k / 40)
    return Scan(
        parts=(Part(tensor="embed_tokens.weight", start=0, count=90, width=40, compared_as="float32"),),
        counts=k, moved=(k > 0).astype(np.int64), zeros=np.zeros_like(k), **plain, **columns, relative=relative,
        made_from={"base": BASE, "patch": "p" * 64, "compared": {"e": "1"}}, settings={"vocabulary": ["embed_tokens.weight"]},
    )  # fmt: skip


@pytest.fixture(scope="module")
def counts():
    rng = np.random.default_rng(1)
    return Counter({row: int(n) for row, n in enumerate(rng.integers(0, 6, 90)) if n})


@pytest.fixture(scope="module")
def attribution():
    ids = np.arange(0, 60, dtype=np.int64)
    rng = np.random.default_rng(2)
    scores = {"lca": rng.normal(0, 1, 60), "gradient": rng.random(60)}
    return Attribution(ids, scores, np.ones(60, dtype=np.int64), {"base": BASE, "patch": "p" * 64})


def test_ranks_of_tickets(scan, counts, attribution):
    chosen = select(scan, top_k=12)
    found = explain(chosen, scan, frequencies=counts, attribution=attribution)
    assert found.rows.tolist() == chosen.rows.tolist()
    for name in ("ks", "cos", "absolute", "absolute-signed", "kl"):
        wanted = rankdata(-scan.score(name)) / 90
        np.testing.assert_allclose(found.ranks[name], wanted[chosen.rows])
    often = [counts[row] for row in range(90)]
    for place, row in enumerate(chosen.rows.tolist()):
        more, same = (sum(n > often[row] for n in often), sum(n == often[row] for n in often))
        assert found.frequency_ranks[place] == 1 + more + (same - 1) / 2  # ties averaged, not divided by V
        assert found.frequencies[place] == often[row]
    full = np.zeros(90)
    full[:60] = attribution.scores["lca"]
    np.testing.assert_allclose(found.ranks["lca"], (rankdata(-full) / 90)[chosen.rows])
    assert {"relative", "ratio", "gradient"} <= set(found.ranks)


def test_agreement_is_spearmans_over_the_rows_that_moved(scan, counts, attribution):
    found = explain(select(scan, top_k=12), scan, frequencies=counts, attribution=attribution).agreement
    moved = np.arange(60)
    scores = {
        "cos": scan.cos[:60], "absolute": scan.absolute[:60], "absolute-signed": scan.absolute_signed[:60], "kl": scan.kl[:60],
        "frequency": np.array([counts[row] for row in moved]), **attribution.scores,
    }  # fmt: skip
    for name, score in scores.items():
        assert found[name].spearman == pytest.approx(spearmanr(score, scan.counts[:60]).statistic, abs=1e-12), name
        assert found[name].compared == 60
    known = np.delete(moved, 4)
    finite = np.where(np.isinf(scan.relative[known]), 1e9, scan.relative[known])
    assert found["relative"].compared == 59
    assert found["relative"].spearman == pytest.approx(spearmanr(finite, scan.counts[known]).statistic, abs=1e-12)


def test_a_score_that_is_the_test_agrees_with_it(make_scan):
    scan = make_scan([0, 5, 15, 16, 40, 15, 64], 64)
    found = explain(select(scan, top_k=3), scan).agreement["cos"]
    assert (found.spearman, found.shared, found.compared) == (pytest.approx(1), 3, 6)
    # All of one frequency: rows 0 to 3 come first, and of the tickets 6, 4, 3, 2 they hold two.
    alike = explain(select(scan, top_k=4), scan, frequencies={}).agreement["frequency"]
    assert (alike.spearman, alike.shared) == (None, 2)


def test_first_rows_are_those_that_select_would_take(scan, counts, attribution):
    chosen = select(scan, top_k=12)
    found = explain(chosen, scan, frequencies=counts, attribution=attribution).agreement
    rivals = {name: select(scan, top_k=12, by=name) for name in SCORES[1:]}
    rivals["frequency"] = select_rows("frequency", Basis(vocabulary=90, size=12, frequencies=counts))
    rivals |= {name: select_by_attribution(attribution, name, 12) for name in ("lca", "gradient")}
    for name, tickets_of in rivals.items():
        assert found[name].shared == len(chosen & tickets_of), name
    assert len({one.shared for one in found.values()}) > 2


@pytest.mark.parametrize(
    ("made", "named"),
    [
        ({"base": {"fingerprint": "e" * 64}}, "of another base than the scan"),
        ({"base": BASE, "patch": "q" * 64}, "a scan of another tuning"),
        ({"base": {"name": "x"}, "compared": {"e": "2"}}, "a scan of other weights"),
    ],
)
def test_tickets_of_another_scan_are_refused(scan, made, named):
    with pytest.raises(UserError, match=named):
        explain(tickets(1, **made), scan)
    assert len(explain(tickets(1, base=BASE, compared={"other": "2"}), scan)) == 1
    assert len(explain(tickets(1), scan)) == 1  # what says nothing cannot be told from its own


def test_rows_and_attributions_that_do_not_fit_are_refused(scan, attribution):
    with pytest.raises(UserError, match="tickets hold row 90, but the scan has 90 rows"):
        explain(tickets(90), scan)
    with pytest.raises(UserError, match="another tuning than was scanned"):
        explain(tickets(1), scan, attribution=replace(attribution, made_from={"patch": "z"}))
    with pytest.raises(UserError, match="attribution hold row 95"):
        explain(tickets(1), scan, attribution=replace(attribution, ids=attribution.ids + 36))


def test_no_tickets_are_no_table(scan, counts):
    found = explain(tickets(), scan, frequencies=counts)
    assert found.table() == []
    assert {one.shared for one in found.agreement.values()} == {0}


def test_scores_that_are_not_defined_have_no_rank(scan):
    found = explain(tickets(4, 5), scan, tokens={4: "'a'"})
    assert [row["ranks"]["relative"] for row in found.table()] == [None, pytest.approx(1 / 90)]
    assert [row["token"] for row in found.table()] == ["'a'", "''"]


def test_files_are_opened_by_their_names(scan, attribution, tmp_path):
    scan.save(tmp_path / "scan.parquet")
    chosen = select(tmp_path / "scan.parquet", top_k=5)
    chosen.save(tmp_path / "tickets.json")
    attribution.save(tmp_path)
    opened = explain(str(tmp_path / "tickets.json"), tmp_path / "scan.parquet", attribution=str(tmp_path))
    assert opened.as_dict() == explain(chosen, scan, attribution=attribution).as_dict()
    assert opened.rows.tolist() == select(scan, top_k=5).rows.tolist()
