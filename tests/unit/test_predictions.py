"""Two systems on one text: the paired difference, by the draw of sentences that the single intervals have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ks_lottery import UserError
from ks_lottery.evaluation.predictions import Predictions


def answers(right: np.ndarray, sentence: np.ndarray) -> Predictions:
    n = len(right)
    position = np.concatenate([np.arange(count) for count in np.bincount(sentence) if count])
    label = np.full(n, 7)
    columns = {"log_p": np.full(n, -1.0), "second": np.zeros(n), "p_first": np.full(n, 0.5), "p_second": np.zeros(n)}
    return Predictions(
        sentence=sentence, position=position, label=label, first=np.where(right, 7, 8), made_from={}, **columns
    )


@pytest.fixture(scope="module")
def two():
    """One system answers a little worse than the other, sentence by sentence; both depend on the sentence far more."""
    rng = np.random.default_rng(0)
    sentence = np.repeat(np.arange(40), rng.integers(3, 30, 40))
    ease = rng.random(40)[sentence]
    draw = rng.random(len(sentence))
    return answers(draw < ease - 0.04, sentence), answers(draw < ease, sentence)


def test_the_difference_is_that_of_the_accuracies(two):
    worse, better = two
    difference, (low, high) = worse.difference(better, seed=3)
    assert difference == pytest.approx(worse.accuracy - better.accuracy)
    again, mirrored = better.difference(worse, seed=3)
    assert again == pytest.approx(-difference)
    assert mirrored == pytest.approx((-high, -low))
    assert worse.difference(worse) == (0.0, (0.0, 0.0))


def test_a_paired_interval_sees_what_two_that_overlap_do_not(two):
    worse, better = two
    assert worse.interval()[1] > better.interval()[0]
    assert worse.difference(better)[1][1] < 0


def test_the_interval_is_that_of_the_differences_in_resampled_text(two):
    """Each resample draws sentences once, for both."""
    worse, better = two
    rng = np.random.default_rng(1)
    total = np.bincount(worse.sentence)
    one, other = (np.bincount(p.sentence, weights=p.correct) for p in two)
    gaps = []
    for _ in range(4000):
        drawn = rng.integers(0, 40, 40)
        gaps.append((one[drawn].sum() - other[drawn].sum()) / total[drawn].sum())
    assert worse.difference(better, resamples=4000)[1] == pytest.approx(
        tuple(np.quantile(gaps, [0.025, 0.975])), abs=0.004
    )


def test_answers_at_other_positions_are_refused(two):
    worse, better = two
    with pytest.raises(UserError, match="different positions or text"):
        worse.difference(replace(better, label=better.label + 1))
    with pytest.raises(UserError, match="different positions or text"):
        worse.difference(better.head(5))
