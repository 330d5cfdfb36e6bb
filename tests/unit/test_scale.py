"""The warning of a learning rate that moves nothing, against trainings and against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ks_2samp

from ks_lottery import read_corpus, scan, select, tune
from ks_lottery.models.load import load_model
from ks_lottery.tuning.scale import Scale, scale_of, statistic_of
from ks_lottery.tuning.tune import TuneSpec, prepare


@pytest.mark.parametrize("move", [0.05, 0.5, 2.0])
def test_the_statistic_of_a_move_is_that_of_large_samples(move):
    row = np.random.default_rng(0).standard_normal(200_000)
    assert statistic_of(move) == pytest.approx(ks_2samp(row, row + move).statistic, abs=0.01)


def test_the_learning_rate_that_it_names_is_large_enough():
    small = Scale(learning_rate=2e-5, steps=117, spread=0.12, width=576)
    assert not small.is_measurable
    named = float(small.sentence().partition("learning rate above ")[2].partition(",")[0])
    assert Scale(learning_rate=2 * named, steps=117, spread=0.12, width=576).is_measurable
    assert not Scale(learning_rate=named / 2, steps=117, spread=0.12, width=576).is_measurable
    assert Scale(learning_rate=1e-9, steps=1, spread=0.0, width=4).is_measurable  # constant rows: nothing can be said


@pytest.mark.filterwarnings("ignore::ks_lottery.LearningRateWarning")
@pytest.mark.parametrize("rate", [1e-4, 1e-3, 3e-3, 1e-2])
def test_no_training_that_finds_tickets_is_warned_of_and_no_move_is_beyond_the_bound(narrow_model, text_file, rate):
    loaded = load_model(narrow_model, dtype="float32", device="cpu")
    text = read_corpus(text_file, source_language="en", target_language="ca", limit=40)
    settings = {"learning_rate": rate, "epochs": 1}
    scale = scale_of(prepare(loaded, text, TuneSpec(settings=settings)))
    found = scan(loaded, tune(loaded, text, **settings))
    assert found.largest.max() <= 1.1 * scale.move
    assert scale.is_measurable or len(select(found)) == 0


def test_methods_that_train_no_rows_have_no_scale(narrow_model, text_file):
    loaded = load_model(narrow_model, dtype="float32", device="cpu")
    text = read_corpus(text_file, source_language="en", target_language="ca", limit=8)
    tuning = prepare(loaded, text, TuneSpec(method="lora"))
    assert scale_of(tuning) is None
    assert scale_of(prepare(loaded, text, TuneSpec(method="random", size=8, settings={"learning_rate": 1e-6}))) is None
    sentences = prepare(loaded, text, TuneSpec()).sections()[0].sentences
    assert sum("will find no tickets" in sentence for sentence in sentences) == 1  # the command says it too
