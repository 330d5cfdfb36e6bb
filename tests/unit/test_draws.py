"""Several draws as one: against the single draw, a bootstrap written out, and positions that do not fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ks_lottery import Predictions, UserError
from ks_lottery.evaluation.draws import mean_accuracy, mean_difference

SENTENCES, POSITIONS = 40, 7


def predictions(seed: int, rate: float) -> Predictions:
    rng = np.random.default_rng(seed)
    n = SENTENCES * POSITIONS
    label = np.arange(n)
    first = np.where(rng.random(n) < rate, label, label + 1)
    columns = {
        "sentence": np.repeat(np.arange(SENTENCES), POSITIONS), "position": np.tile(np.arange(POSITIONS), SENTENCES),
        "label": label, "first": first, "second": label + 2,
    }  # fmt: skip
    return Predictions(**columns, log_p=-np.ones(n), p_first=np.full(n, 0.6), p_second=np.full(n, 0.3), made_from={})


DRAWS = [predictions(seed, rate) for seed, rate in ((1, 0.3), (2, 0.5), (3, 0.4))]
OTHER = predictions(9, 0.6)


def test_one_draw_is_that_draw():
    (draw, *_) = DRAWS
    alone = mean_accuracy([draw], seed=3)
    assert (alone.mean, alone.range) == (draw.accuracy, (draw.accuracy, draw.accuracy))
    assert alone.interval == draw.interval(seed=3)
    assert mean_difference([draw], OTHER, seed=3) == draw.difference(OTHER, seed=3)


def test_the_mean_and_its_range():
    together = mean_accuracy(DRAWS)
    accuracies = [draw.accuracy for draw in DRAWS]
    assert together.mean == pytest.approx(np.mean(accuracies))
    assert together.range == (min(accuracies), max(accuracies))
    assert together.interval[0] < together.mean < together.interval[1]
    difference, _ = mean_difference(DRAWS, OTHER)
    assert difference == pytest.approx(np.mean(accuracies) - OTHER.accuracy)


def test_one_draw_of_sentences_serves_all_systems():
    """Against a bootstrap written out: the interval of the mean is narrower than that of one draw."""
    rng = np.random.default_rng(0)
    by_sentence = np.mean([d.correct.reshape(SENTENCES, -1) for d in DRAWS], axis=0) - OTHER.correct.reshape(
        SENTENCES, -1
    )
    resampled = [by_sentence[rng.integers(0, SENTENCES, SENTENCES)].mean() for _ in range(20_000)]
    _, (low, high) = mean_difference(DRAWS, OTHER, resamples=20_000)
    assert (low, high) == pytest.approx(np.quantile(resampled, [0.025, 0.975]), abs=0.004)


def test_draws_of_other_positions_are_refused():
    moved = replace(DRAWS[1], label=DRAWS[1].label + 1)
    with pytest.raises(UserError, match="measure all on one text"):
        mean_accuracy([DRAWS[0], moved])
    with pytest.raises(UserError, match="measure all on one text"):
        mean_difference([DRAWS[0], moved], OTHER)
