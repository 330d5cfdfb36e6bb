"""The crossed bootstrap against the whole distribution that it samples, enumerated."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from ks_lottery.stats.crossed import crossed_bootstrap, crossed_ratio
from ks_lottery.stats.intervals import bootstrap_interval

ABOVE = np.array([[2.0, -1.0, 3.0], [1.0, 1.0, -2.0]])
BELOW = np.array([4.0, 2.0, 5.0])


def every_resample(above, below):
    """Return the difference of every draw of seeds and of sentences, each as likely as the others."""
    seeds, sentences = above.shape
    values = []
    for drawn in itertools.product(range(sentences), repeat=sentences):
        ratios = [sum(above[s, i] for i in drawn) / sum(below[i] for i in drawn) for s in range(seeds)]
        values += [np.mean([ratios[s] for s in pick]) for pick in itertools.product(range(seeds), repeat=seeds)]
    return np.array(values)


def test_it_samples_the_distribution_of_all_resamples():
    values = every_resample(ABOVE, BELOW)
    found = crossed_bootstrap(ABOVE, BELOW, confidence=0.8, resamples=40_000)
    assert found.estimate == pytest.approx(np.mean([4 / 11, 0.0]))
    assert (found.low, found.high) == pytest.approx(np.quantile(values, [0.1, 0.9]), abs=0.02)
    assert found.pvalue == pytest.approx(2 * min((values <= 0).mean(), (values >= 0).mean()), abs=0.01)
    assert (found.seeds, found.sentences) == (2, 3)


def test_one_draw_of_sentences_serves_all_seeds():
    """Where all seeds are alike, more of them make nothing more certain."""
    generator = np.random.default_rng(0)
    gaps, positions = generator.normal(size=60), np.ones(60)
    alone = crossed_bootstrap([gaps], positions, resamples=4000)
    many = crossed_bootstrap(np.tile(gaps, (20, 1)), positions, resamples=4000)
    assert (many.low, many.high) == pytest.approx((alone.low, alone.high), abs=0.02)
    assert (alone.low, alone.high) == pytest.approx(bootstrap_interval(gaps, positions), abs=0.03)


def test_the_same_seed_gives_the_same_result_and_p_is_never_0():
    once, again = (crossed_bootstrap(ABOVE, BELOW, resamples=500, seed=7) for _ in range(2))
    assert once == again
    assert once != crossed_bootstrap(ABOVE, BELOW, resamples=500, seed=8)
    assert crossed_bootstrap(ABOVE * 0 + 1, BELOW, resamples=99).pvalue == 0.02
    assert crossed_bootstrap(ABOVE * 0, BELOW, resamples=99).pvalue == 1.0


def test_a_sentence_without_positions_has_no_say():
    wider = np.hstack([ABOVE, np.zeros((2, 1))])
    assert crossed_bootstrap(wider, [*BELOW, 0.0], resamples=500) == crossed_bootstrap(ABOVE, BELOW, resamples=500)


@pytest.mark.parametrize(
    ("above", "below", "settings"),
    [
        ([1.0, 2.0], [1.0, 2.0], {}),
        ([[1.0, 2.0]], [1.0], {}),
        (np.empty((0, 2)), [1.0, 2.0], {}),
        ([[1.0, np.nan]], [1.0, 2.0], {}),
        ([[1.0, 2.0]], [1.0, -2.0], {}),
        ([[1.0, 2.0]], [1.0, 0.0], {}),
        ([[0.0, 0.0]], [0.0, 0.0], {}),
        (ABOVE, BELOW, {"confidence": 1.0}),
        (ABOVE, BELOW, {"resamples": 0}),
    ],
)
def test_what_is_no_comparison_is_refused(above, below, settings):
    with pytest.raises(ValueError, match=r"shapes|finite|denominator|confidence|resample"):
        crossed_bootstrap(above, below, **settings)


def test_a_share_of_a_gain_is_the_ratio_of_sums_and_has_no_interval_where_the_gain_can_be_0():
    generator = np.random.default_rng(0)
    whole = generator.integers(0, 3, (3, 50)).astype(float)
    part = whole * generator.integers(0, 2, (3, 50))
    share, (low, high) = crossed_ratio(part, whole, resamples=2000)
    assert share == pytest.approx(part.sum() / whole.sum())
    assert low < share < high
    rare = np.zeros((1, 100))
    rare[0, :5] = 1.0  # some resamples draw none of these sentences
    assert crossed_ratio(rare / 2, rare, resamples=2000) == (0.5, None)
    assert crossed_ratio(-part, whole - 1.0, resamples=200)[1] is None
    for wrong in ({"confidence": 1.0}, {"resamples": 0}):
        with pytest.raises(ValueError, match="confidence|resample"):
            crossed_ratio(part, whole, **wrong)
    with pytest.raises(ValueError, match="shapes must be"):
        crossed_ratio(part, whole[:2])
