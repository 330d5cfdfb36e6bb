"""Which method a run ships: by its rule written out, and against intervals of NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from ks_lottery.evaluation.predictions import Predictions
from ks_lottery.recipes.findings import TITLES
from ks_lottery.recipes.recommendation import next_commands, recommend, ship_sentences

SENTENCES, POSITIONS = 60, 10
BOOTSTRAP = {"confidence": 0.95, "resamples": 400, "seed": 0}
SIZES = {"original": 0, "embed": 5000, "partial": 100, "transfer": 100, "occurrence": 100, "gradient-sum": 100}
BYTES = {name: 4 * size + 1000 for name, size in SIZES.items()}


def answers(accuracy: float, seed: int, like: Predictions | None = None) -> Predictions:
    """Predictions that are right at a share of positions, drawn anew or, in part, like another's."""
    count = SENTENCES * POSITIONS
    right = np.random.default_rng(seed).random(count) < accuracy
    if like is not None:  # the same but for a few positions, some better and more of them worse
        right = like.correct.copy()
        right[::40], right[20::50] = False, True
    label = np.arange(count) % 7
    top1 = np.where(right, label, 8)
    flat = np.full(count, 0.1, dtype=np.float64)
    return Predictions(
        sentence=np.repeat(np.arange(SENTENCES), POSITIONS), position=np.tile(np.arange(POSITIONS), SENTENCES), label=label,
        log_p=np.log(flat), first=top1, second=np.full(count, 9), p_first=flat, p_second=flat, made_from={},
    )  # fmt: skip


def ship(accuracies, sizes=None, **more):
    predictions = {
        name: value if isinstance(value, Predictions) else answers(value, n)
        for n, (name, value) in enumerate(accuracies.items())
    }
    sizes = sizes or {name: SIZES[name] for name in predictions}
    return recommend(
        predictions, sizes, chosen="partial", original="original", larger=("embed",), bootstrap=BOOTSTRAP, **more
    )


def test_a_rival_that_beats_the_tickets_is_shipped_with_its_reason_and_its_commands():
    found = ship({"original": 0.2, "embed": 0.8, "partial": 0.4, "occurrence": 0.6, "transfer": 0.3})
    assert (found["method"], found["best"]) == ("occurrence", "occurrence")
    first, second = ship_sentences(found, TITLES, BYTES, "runs/x")
    assert first.startswith(
        "Ship this one: most frequent rows (runs/x/occurrence, 1 kB). It is more accurate than partial tuning: +0."
    )
    assert second.startswith("Less accurate than embed tuning (21 kB): -0.")
    lines = next_commands(found, "runs/x", "partial")
    assert "  ks-lottery export runs/x/occurrence --to peft --out adapter" in lines
    assert '  ks-lottery translate runs/x "Your session has expired." --compare --method occurrence' in lines
    assert not any("partial" in line for line in lines)


def test_the_tickets_are_shipped_where_they_are_best():
    found = ship({"original": 0.2, "embed": 0.7, "partial": 0.7, "occurrence": 0.4})
    assert found["method"] == "partial"
    first, second = ship_sentences(found, TITLES, BYTES, "runs/x")
    assert first.endswith("It is more accurate than most frequent rows.")
    assert second.startswith("No difference shown from embed tuning")
    assert "  ks-lottery export runs/x/partial --to peft --out adapter" in next_commands(found, "runs/x", "partial")


def test_of_those_that_do_not_differ_the_smallest_is_shipped():
    best = answers(0.6, 1)
    near = answers(0, 0, like=best)
    assert near.accuracy < best.accuracy
    accuracies = {"original": 0.2, "partial": near, "occurrence": best, "transfer": 0.4}
    sizes = {"original": 0, "partial": 50, "occurrence": 100, "transfer": 10}
    found = ship(accuracies, sizes)
    assert (found["method"], found["best"]) == ("partial", "occurrence")
    (said,) = ship_sentences({**found, "larger": []}, TITLES, BYTES, "runs/x")
    assert "It is smaller than most frequent rows, which is not shown to be better: the difference is -0." in said
    assert ship(accuracies)["method"] == "occurrence"  # of one size: the more accurate one


def test_intervals_are_those_of_a_paired_bootstrap_over_sentences():
    found = ship({"original": 0.2, "partial": 0.4, "occurrence": 0.6})["differences"]["partial"]
    one, other = answers(0.6, 2), answers(0.4, 1)
    gaps = (one.correct.astype(float) - other.correct).reshape(SENTENCES, POSITIONS).mean(axis=1)
    rng = np.random.default_rng(7)
    means = gaps[rng.integers(0, SENTENCES, (4000, SENTENCES))].mean(axis=1)
    assert found["difference"] == pytest.approx(gaps.mean())
    assert found["interval"] == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.01)


def test_nothing_is_shipped_that_is_not_better_than_the_original():
    original = answers(0.5, 1)
    found = ship({"original": original, "embed": 0.8, "partial": answers(0, 0, like=original), "occurrence": 0.2})
    assert found["method"] is None
    said = ship_sentences(found, TITLES, BYTES, "runs/x")
    assert said[0].startswith("Ship none of them: not even partial tuning")
    lines = next_commands(found, "runs/x", "partial")
    assert not any("export" in line for line in lines)


def test_without_a_ticket_the_learning_rate_that_would_do_is_named():
    nothing = dict.fromkeys(SIZES, 0) | {"embed": 5000}
    found = ship({"original": 0.2, "embed": 0.8, "partial": 0.2, "occurrence": 0.2}, nothing)
    assert found["method"] is None
    advised = {"method": None, "missing": "no row is a ticket", "advice": {"rate": 1e-3, "factor": 4.0}}
    (said,) = ship_sentences(advised, TITLES, BYTES, "runs/x")
    assert "--train.learning-rate 0.0041 instead of 0.001: moves 4 times as large" in said  # rounded up
    assert next_commands(advised, "runs/x", "partial") == ["All results are in runs/x."]
