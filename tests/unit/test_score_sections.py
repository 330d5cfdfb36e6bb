"""Sentences and tables of score recipes follow from the figures: made-up cells whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest

from ks_lottery.recipes.score_sections import frozen_sections, score_sections, sweep_sections
from ks_lottery.store.cells import FinishedCell


def finished(system, right, *, set_name=None, seed=0, rows=5, pair="en-ca", model="m"):
    """Return a cell with ten positions a sentence."""
    added = {"positions": [10] * len(right), "correct": right, "loss": [20.0] * len(right)}
    figures = {
        "rows": rows, "parameters": 32, "accuracy": sum(right) / len(right) / 10, "loss": 2.0, "sentences": added,
    }  # fmt: skip
    about = {"model": model, "pair": pair, "system": system, "set": set_name, "seed": seed}
    return FinishedCell(recipe="table1", about=about, figures=figures, conditions={})


BASE = [finished("original", [2] * 30, seed=None, rows=0), finished("embed", [6] * 30, rows=None)]


def said(sections):
    return " ".join(sections[-1].sentences)


def test_higher_lower_and_no_difference_are_what_the_paired_intervals_show():
    noise = [int(n) for n in np.random.default_rng(0).integers(-2, 3, 30)]
    cells = [
        *BASE, finished("partial", [7] * 30, set_name="p < 0.05"), finished("transfer", [5] * 30, set_name="p < 0.05"),
        finished("partial", [6 + n for n in noise], set_name="at most 8"),
        *(finished("random-reachable", [3] * 30, set_name="p < 0.05", seed=draw) for draw in range(3)),
    ]  # fmt: skip
    found = said(score_sections(cells, table="table1", resamples=500))
    same = "+0.1000 (+0.1000 to +0.1000)"
    assert f"m, en-ca: Accuracy is higher with partial tuning, p < 0.05 than with embed tuning: {same}." in found
    assert "Accuracy is lower with partial transfer, p < 0.05 than with embed tuning: -0.1000" in found
    assert "No difference in accuracy is shown between partial tuning, at most 8 and embed tuning" in found
    assert "Accuracy is higher with partial tuning, p < 0.05 than with as many random reachable rows: +0.4000" in found
    assert "the mean and the range of 3 draws" in found
    assert "1 seed: a claim needs 5." in found
    assert "p < A is the set of rows with p in [0, A), closed on the left and open on the right" in found
    assert "LLaMA-7B, table 1" in found


def test_shares_are_of_the_gain_of_embed_tuning():
    cells = [*BASE, finished("partial", [5] * 30, set_name="at most 8"), finished("full", [4] * 30, rows=None)]
    table = score_sections(cells, table="table1", resamples=200)[0]
    shares = {row[0]: row[8] for row in table.rows}
    assert shares == {
        "original model": None, "full tuning": pytest.approx(0.5), "embed tuning": None, "partial tuning": pytest.approx(0.75),
    }  # fmt: skip


def test_averages_over_pairs_stand_beside_the_papers_only_where_the_pairs_are_its_own():
    own = ("en-ro", "en-es", "en-de", "en-ca")
    for pairs, paper in ((own, 29.0), (own[:2], None)):
        cells = [
            finished(system, [right + place] * 30, pair=pair, rows=None)
            for place, pair in enumerate(pairs)
            for system, right in (("original", 1), ("embed", 5))
        ]
        table = next(s for s in score_sections(cells, table="table1", resamples=50) if "average" in s.title)
        (row,) = (row for row in table.rows if row[0] == "embed tuning")
        assert list(row[2 : 2 + len(pairs)]) == pytest.approx([(5 + n) / 10 for n in range(len(pairs))])
        assert row[-3] == pytest.approx(np.mean([(5 + n) / 10 for n in range(len(pairs))]))
        assert row[-1] == paper


def test_mistral_stands_beside_mistral():
    cells = [finished("embed", [6] * 30, rows=None, model="mistralai/Mistral-7B-v0.1", pair="en-de")]
    assert score_sections(cells, table="table1", resamples=50)[0].rows[0][-1] == 33.2


def test_the_best_number_has_rows():
    cells = [
        *BASE, finished("partial", [7] * 30, set_name="p < 0.05", rows=0), finished("partial", [3] * 30, set_name="at most 4"),
        finished("partial", [5] * 30, set_name="at most 8"),
    ]  # fmt: skip
    sections = sweep_sections(cells, table="table4", systems=("partial",), resamples=50)
    best = next(s for s in sections if "best" in s.title)
    assert [row[1] for row in best.rows] == [None, "at most 8"]
    assert "its score is too high by chance" in said(sections)


def test_frozen_tickets_are_compared_with_embed_tuning_and_with_as_many_frozen_random_rows():
    cells = [
        *BASE, finished("frozen", [3] * 30, set_name="at most 8"), finished("frozen-random", [6] * 30, set_name="at most 8"),
    ]  # fmt: skip
    found = said(frozen_sections(cells, resamples=50))
    assert "Accuracy is lower with all but the tickets, at most 8 than with embed tuning: -0.3000" in found
    assert "than with all but random reachable rows, at most 8: -0.3000" in found


def test_seeds_are_paired_and_other_seeds_are_left_out():
    cells = [
        finished("original", [2] * 30, seed=None, rows=0),
        *(finished("embed", [4 + s] * 30, seed=s, rows=None) for s in (0, 1)),
        *(finished("partial", [5 + s] * 30, set_name="at most 8", seed=s) for s in (0, 1)),
        *(finished("random-reachable", [1 + s] * 30, set_name="at most 8", seed=s) for s in (0, 1, 2)),
    ]  # fmt: skip
    found = said(score_sections(cells, table="table1", resamples=200))
    assert "than with embed tuning: +0.1000 (+0.1000 to +0.1000)" in found
    assert "than with as many random reachable rows: +0.4000 (+0.4000 to +0.4000)" in found
