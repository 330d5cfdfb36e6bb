"""Tables 3, 6 and 8: against SciPy, and against their definitions written out."""

from __future__ import annotations

import io
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console
from scipy.stats import ks_2samp, rankdata, spearmanr

from ks_lottery import (
    Attribution,
    RowPatch,
    Tickets,
    UserError,
    compare_tunings,
    explain,
    select,
    select_by_attribution,
)
from ks_lottery.report.alike_report import rows_table
from ks_lottery.report.explain_report import tickets_table
from ks_lottery.report.overlap_table import side_by_side_tables
from ks_lottery.tickets.overlap import check_one_base, side_by_side
from ks_lottery.tickets.scan import average_ranks
from ks_lottery.tickets.tickets import select_by_frequency

BASE = {"name": "base", "fingerprint": "f" * 64}


def patch(ids, seed: int, width: int = 40, base=BASE, **more) -> RowPatch:
    values = torch.randn(len(ids), width, generator=torch.Generator().manual_seed(seed))
    return RowPatch(np.array(ids, dtype=np.int64), values.round(decimals=1), base, **more)


def tickets(*rows: int, **made_from) -> Tickets:
    return Tickets(np.array(rows, dtype=np.int64), {"selector": "test"}, made_from=made_from)


@pytest.fixture(scope="module")
def two():
    """Rows of all degrees of likeness; rows 3 and 50 are in one patch alone."""
    embed = patch([*range(20), 50], 1)
    partial = patch([i for i in range(20) if i != 3], 2)
    shift = torch.linspace(0, 2, 19).unsqueeze(1)
    return embed, replace(partial, values=embed.values[[i for i in range(20) if i != 3]] * (1 + shift) + shift)


def test_rows_are_tested_as_scipy_tests_them(two):
    embed, partial = two
    found = compare_tunings(embed, partial)
    rows = [i for i in range(20) if i != 3]
    assert found.rows.tolist() == rows
    for place, row in enumerate(rows):
        wanted = ks_2samp(
            embed.values[embed.ids == row][0].numpy(), partial.values[partial.ids == row][0].numpy(), method="exact"
        )
        assert found.statistics[place] == pytest.approx(wanted.statistic, abs=1e-12)
        assert found.pvalues[place] == pytest.approx(wanted.pvalue, rel=1e-9)
    assert (found.only_embed, found.only_partial, found.in_neither) == (2, 0, 0)
    assert found.width == 40
    assert len(set(found.counts.tolist())) > 5


def test_the_share_of_unchanged_rows_is_one_less_changed_over_all(two):
    alphas = (0.0, 0.01, 0.05, 0.5, 0.9, 1.0)
    found = compare_tunings(*two, alphas=alphas)
    for alpha in alphas[:-1]:
        changed = sum(p < alpha for p in found.pvalues)
        assert found.ratios[alpha] == pytest.approx(1 - changed / 19)
    assert found.ratios[0.0] == 1
    assert found.ratios[1.0] == 0  # every row by definition, also the one that is the same in both
    assert 0 < found.ratios[0.05] < 1
    assert compare_tunings(*reversed(two), alphas=alphas).ratios == found.ratios


def test_tickets_choose_the_rows_and_the_others_are_counted(two):
    found = compare_tunings(*two, tickets(19, 3, 50, 7, 99))
    assert found.rows.tolist() == [7, 19]
    assert (found.only_embed, found.only_partial, found.in_neither) == (2, 0, 1)
    same = compare_tunings(two[0], two[0], tickets(1, 2))
    assert same.counts.tolist() == [0, 0]
    assert same.unchanged(0.999) == 1


def test_wide_rows_have_an_exact_p():
    """SciPy goes over to the asymptotic p above 10,000 values; here the exact sum is asked for at any width."""
    a, b = patch([5], 1, width=10_400), patch([5], 2, width=10_400)
    found = compare_tunings(a, replace(b, values=b.values + 0.03))
    wanted = ks_2samp(a.values[0].numpy(), b.values[0].numpy() + np.float32(0.03), method="exact")
    assert found.pvalues[0] == pytest.approx(wanted.pvalue, rel=1e-6)


def test_sides_are_not_mixed():
    both = patch([1, 2], 1, side="both", output_values=torch.ones(2, 40))
    output = replace(patch([1, 2], 1), side="output")
    assert compare_tunings(both, output).side == "output"
    assert compare_tunings(both, both).side == "input"
    assert compare_tunings(both, both, side="output").counts.tolist() == [0, 0]
    with pytest.raises(UserError, match="input side and the other the output side"):
        compare_tunings(patch([1], 1), output)
    with pytest.raises(UserError, match="--side input was asked for"):
        compare_tunings(both, output, side="input")


@pytest.mark.parametrize(
    ("one", "other", "more", "named"),
    [
        (patch([1], 1), patch([1], 1, base={"name": "other", "fingerprint": "e" * 64}), {}, "different bases, base"),
        (patch([1], 1), patch([2], 1), {}, "no row in common: "),
        (patch([1], 1), patch([1], 1), {"tickets": tickets(4)}, "among the 1 tickets"),
        (patch([1], 1), patch([1], 1), {"alphas": [0.1, 1.5]}, "alpha is 1.5"),
        (patch([1], 1), patch([1], 1), {"alphas": [float("nan")]}, "alpha is nan"),
        (patch([1], 1), patch([1], 1, width=4), {}, "40 and 4 coordinates"),
        (patch([1], 1), patch([1], 1), {"tickets": tickets(1, base={"fingerprint": "d" * 64})}, "another base"),
        (patch([1, 7], 1), replace(patch([1, 7], 1), values=torch.tensor([[0.0] * 40, [float("nan")] * 40])), {}, "row 7"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused(one, other, more, named):
    with pytest.raises(UserError, match=named):
        compare_tunings(one, other, **more)


@pytest.fixture(scope="module")
def scan():
    """A scan of real rows: 60 of 90 moved, the first half of them by little."""
    from ks_lottery.tickets.scan import Part, Scan

    rng = np.random.default_rng(0)
    k = np.concatenate([rng.integers(1, 20, 60), np.zeros(30, dtype=np.int64)])
    columns = {name: np.where(k > 0, rng.random(90).round(1), 0) for name in ("cos", "absolute", "kl")}
    relative = np.where(k > 0, rng.normal(1, 1, 90), 1)
    relative[4], relative[5] = np.nan, np.inf
    plain = dict.fromkeys(("distance", "largest", "spread"), k / 40)
    return Scan(
        (Part("embed_tokens.weight", 0, 90, 40, "float32"),), k, (k > 0).astype(np.int64), np.zeros_like(k),
        **plain, **columns, relative=relative, made_from={"base": BASE, "patch": "p" * 64, "compared": {"e": "1"}},
        settings={"vocabulary": ["embed_tokens.weight"]},
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


def test_average_ranks_are_those_of_scipy():
    score = np.random.default_rng(0).integers(0, 9, 50).astype(float)
    np.testing.assert_array_equal(average_ranks(score), rankdata(-score))


def test_ranks_of_tickets(scan, counts, attribution):
    chosen = select(scan, top_k=12)
    found = explain(chosen, scan, frequencies=counts, attribution=attribution)
    assert found.rows.tolist() == chosen.rows.tolist()
    for name in ("ks", "cos", "absolute", "kl"):
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
        "cos": scan.cos[:60], "absolute": scan.absolute[:60], "kl": scan.kl[:60],
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
    rivals = {name: select(scan, top_k=12, by=name) for name in ("cos", "absolute", "relative", "ratio", "kl")}
    rivals["frequency"] = select_by_frequency(counts, 90, 12)
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
    found = explain(tickets(4, 5), scan)
    assert [row["ranks"]["relative"] for row in found.table()] == [None, pytest.approx(1 / 90)]
    assert found.table({4: "'a'"})[0]["token"] == "'a'"


def test_sets_side_by_side_against_pythons_sets():
    sets = {"ca": tickets(9, 2, 5), "de": tickets(5, 7), "ro": tickets(5, 9, 1)}
    found = side_by_side(sets)
    plain = {name: set(one.rows.tolist()) for name, one in sets.items()}
    assert found.common.tolist() == sorted(set.intersection(*plain.values())) == [5]
    assert sorted(found.rows.tolist()) == sorted(set.union(*plain.values()))
    assert found.sets.tolist() == [sum(row in one for one in plain.values()) for row in found.rows.tolist()]
    assert found.spread == {3: 1, 2: 1, 1: 3}
    assert found.table({5: "'.'"})[0] == {"row": 5, "token": "'.'", "sets": 3, "places": {"ca": 3, "de": 1, "ro": 1}}
    assert found.rows.tolist() == [5, 9, 1, 2, 7]  # most sets first, then by row
    assert side_by_side({"none": tickets()}).table() == []


def test_rows_of_different_bases_are_not_compared_by_number():
    one, other = tickets(1, base=BASE), tickets(1, base={"fingerprint": "e" * 64})
    with pytest.raises(UserError, match="a and b are tickets of different bases"):
        check_one_base({"a": one, "silent": tickets(1), "b": other}, {})
    with pytest.raises(UserError, match="row 1 is 'x' in a and 'y' in b"):
        check_one_base({"a": one, "b": one}, {"a": {1: "'x'"}, "b": {1: "'y'"}})
    check_one_base({"a": one, "b": one, "c": tickets(1)}, {"a": {1: "'x'"}, "b": {2: "'y'"}, "c": {1: "'x'"}})


def drawn(*tables, width: int = 100) -> list[str]:
    console = Console(width=width, file=io.StringIO(), soft_wrap=True)
    for table in tables:
        console.print(table)
    return console.file.getvalue().splitlines()


TOKENS = ("'[/INST]'", "'[bold]x'", "'" + "wide" * 12 + "'", "'汉字汉字汉字汉字汉字汉字'")
"""What breaks a careless table: markup, and strings that are too long."""


def test_many_sets_are_shown_in_blocks_that_fit():
    names = {f"language-{i:02d}": f"language-{i:02d}" for i in range(14)}
    rows = [
        {"row": 40_000 + i, "token": token, "sets": 14, "places": dict.fromkeys(names, 1000 + i)}
        for i, token in enumerate(TOKENS)
    ]
    lines = drawn(*side_by_side_tables(rows, names, 100))
    assert max(len(line.rstrip()) for line in lines) <= 100
    text = "\n".join(lines)
    for name in names:
        assert text.count(name) == 1
    assert text.count("1003") == 14
    assert "'[/INST]'" in text
    assert "'[bold]x'" in text
    assert len(side_by_side_tables(rows, {"ca": "ca", "de": "de"}, 100)) == 1


def test_every_figure_of_a_ticket_is_whole_in_100_columns():
    ranks = dict.fromkeys(("ks", "cos", "absolute", "relative", "ratio", "kl", "lca", "gradient"), 0.12345)
    rows = [
        {"row": 151_000, "token": token, "count": 300, "statistic": 0.98765, "log_pvalue": -1000.0, "frequency": n,
         "frequency_rank": 123_456.5, "ranks": {**ranks, "kl": None}}
        for n, token in enumerate(TOKENS)
    ]  # fmt: skip
    lines = drawn(tickets_table(rows))
    assert len(lines) == 1 + len(rows)
    assert all(line.count("0.1235") + line.count("0.1234") == 5 for line in lines[1:])
    assert all("5.08e-435" in line and "0.9877" in line for line in lines[1:])
    assert "never" in lines[1]
    assert all("123,456.5" in line for line in lines[2:])
    assert "'[/INST]'" in drawn(rows_table([{**rows[0], "pvalue": 0.0}]))[1]


def test_token_strings_are_found_here_or_not_at_all(tied_model, tmp_path, monkeypatch):
    """Nothing may be fetched for the sake of a string: a model that is not on this machine has none."""
    import huggingface_hub
    from huggingface_hub import constants

    from ks_lottery.models.vocabulary import tokens_here

    def never(*arguments, **more):
        raise AssertionError("a download was asked for")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", never)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("KS_LOTTERY_CACHE", str(tmp_path))
    found = tokens_here(str(tied_model))
    assert found is not None
    assert found[2] == "'</s>'"
    assert tokens_here(str(tied_model / "model.safetensors")) == found
    for gone in ("", "me/model", "/nowhere/model", "asset:smollm2-135m-instruct", str(tmp_path)):
        assert tokens_here(gone) is None, gone
    snapshot = tmp_path / "models--me--model" / "snapshots" / "abc123"
    shutil.copytree(tied_model, snapshot)
    (tmp_path / "models--me--model" / "refs").mkdir()
    (tmp_path / "models--me--model" / "refs" / "main").write_text("abc123")
    assert tokens_here("me/model") == found
    (snapshot / "tokenizer.json").write_text("{")
    assert tokens_here("me/model") is None
