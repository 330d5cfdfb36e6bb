"""The warning of a learning rate that moves nothing, against trainings and against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ks_2samp

from ks_lottery import LearningRateWarning, read_corpus, scan, select, tune
from ks_lottery.config.choices import METHODS
from ks_lottery.models.load import load_model
from ks_lottery.models.row_scale import fitted_rate, statistic_of
from ks_lottery.tuning.scale import Scale, scale_of
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
    assert scale.is_measurable or len(select(found, allow_empty=True)) == 0


def test_methods_that_train_no_rows_have_no_scale(narrow_model, text_file):
    loaded = load_model(narrow_model, dtype="float32", device="cpu")
    text = read_corpus(text_file, source_language="en", target_language="ca", limit=8)
    tuning = prepare(loaded, text, TuneSpec(method="lora"))
    assert scale_of(tuning) is None
    assert scale_of(prepare(loaded, text, TuneSpec(method="random", size=8, settings={"learning_rate": 1e-6}))) is None
    sentences = prepare(loaded, text, TuneSpec(settings={"learning_rate": 2e-5})).sections()[0].sentences
    assert sum("will find no tickets" in sentence for sentence in sentences) == 1  # the command says it too


@pytest.mark.parametrize("model", ["narrow_model", "tied_model"])
def test_the_default_rate_of_embed_tuning_finds_tickets_where_the_papers_finds_none(model, text_file, request):
    """Whatever the spread of the rows: 0.02 and 0.3 here."""
    loaded = load_model(request.getfixturevalue(model), dtype="float32", device="cpu")
    text = read_corpus(text_file, source_language="en", target_language="ca", limit=120)
    paper = METHODS["embed"].learning_rate
    with pytest.warns(LearningRateWarning):
        assert len(select(scan(loaded, tune(loaded, text, learning_rate=paper, epochs=1)), allow_empty=True)) == 0
    patch = tune(loaded, text, epochs=1)
    assert len(select(scan(loaded, patch))) > 0
    tuning = prepare(loaded, text, TuneSpec(settings={"epochs": 1}))
    rate = tuning.config.learning_rate
    assert patch.settings["learning_rate"] == rate > 100 * paper
    assert f"learning rate {rate:g} instead of the paper's {paper:g}: " in tuning.sections()[0].sentences[1:][-1]


def test_the_papers_rate_stays_where_it_is_given_or_moves_rows_enough(narrow_model, text_file):
    loaded = load_model(narrow_model, dtype="float32", device="cpu")
    text = read_corpus(text_file, source_language="en", target_language="ca", limit=16)
    given = prepare(loaded, text, TuneSpec(settings={"learning_rate": 3e-4}))
    assert (given.config.learning_rate, given.fitted) == (3e-4, None)
    long = prepare(loaded, text, TuneSpec(settings={"epochs": 20_000.0}))  # 40,000 steps: 2e-5 moves a row by 0.4
    assert (long.config.learning_rate, long.fitted) == (2e-5, None)
    for method in ("lora", "full"):
        assert prepare(loaded, text, TuneSpec(method=method)).config.learning_rate == METHODS[method].learning_rate
    partial = prepare(loaded, text, TuneSpec(method="random", size=4))
    assert (partial.config.learning_rate, partial.fitted) == (1e-2, None)


@pytest.mark.parametrize(("spread", "width"), [(0.12, 576), (0.02, 32), (0.3, 32), (0.018, 4096)])
def test_the_rate_that_fits_moves_a_row_far_enough_at_one_occurrence(spread, width):
    """A row of the spread, all of whose coordinates move by 3.5 rates in one direction, against SciPy."""
    rate = fitted_rate(spread, width)
    assert float(f"{rate:.0e}") == rate
    row = np.linspace(-3, 3, width)
    row *= spread / row.std()
    assert ks_2samp(row, row + 3.5 * rate * 1.5).pvalue < 0.05
    assert ks_2samp(row, row + 3.5 * rate / 5).pvalue > 0.05


def test_on_smollm2_it_is_the_rate_that_was_measured():
    """docs/log.md: 1e-2 finds tickets on SmolLM2-135M in 117 steps; 2e-3 finds none in 300; in 45 steps it takes more."""
    rows = {"spread": 0.12, "width": 576}
    assert Scale(learning_rate=2e-5, steps=3750, **rows).fitted == 1e-2
    assert Scale(learning_rate=2e-5, steps=117, **rows).fitted == 1e-2
    assert Scale(learning_rate=2e-5, steps=45, **rows).fitted == 2e-2
    assert not Scale(learning_rate=2e-5, steps=3750, **rows).finds_tickets
    assert not Scale(learning_rate=2e-3, steps=300, **rows).finds_tickets
    assert Scale(learning_rate=1e-2, steps=117, **rows).finds_tickets
    assert Scale(learning_rate=2e-5, steps=3750, spread=0.018, width=4096).finds_tickets  # the paper's model
