"""Two systems are compared seed by seed and sentence by sentence, and a win is claimed only where it was shown."""

from __future__ import annotations

import numpy as np
import pytest

from ks_lottery import UserError
from ks_lottery.recipes.selector_recipe import selector_sections
from ks_lottery.recipes.system_comparison import claim, compare_systems, holm
from ks_lottery.stats.crossed import CrossedDifference
from ks_lottery.store.cells import FinishedCell


def cell(correct, positions=(4, 4, 4, 4), loss=None, conditions=None, **about):
    sentences = {"positions": list(positions), "correct": list(correct), "loss": list(loss or [1.0] * len(correct))}
    figures = {
        "accuracy": sum(correct) / sum(positions), "loss": sum(sentences["loss"]) / sum(positions), "rows": 18, "bytes": 10,
        "sentences": sentences, "without_end": {"accuracy": 0.5, "loss": 1.0},
        "forgetting": {
            "loss_difference": 0.0, "loss_interval": None, "accuracy_difference": 0.0, "untouched_share": None,
        },
    }  # fmt: skip
    return FinishedCell(recipe="selectors", about=about, figures=figures, conditions=conditions or {})


def difference(pvalue, estimate=0.1, seeds=5):
    return CrossedDifference(
        estimate=estimate, low=estimate - 0.05, high=estimate + 0.05, pvalue=pvalue, seeds=seeds, sentences=9
    )


def test_the_estimate_is_the_mean_over_seeds_of_paired_differences():
    system, baseline = [cell([4, 2, 3, 1]), cell([4, 4, 4, 4])], [cell([1, 2, 3, 1]), cell([4, 4, 4, 0])]
    found = compare_systems(system, baseline, "accuracy", resamples=500)
    assert found.estimate == pytest.approx(np.mean([3 / 16, 4 / 16]))
    assert (found.seeds, found.sentences) == (2, 4)
    worse = [cell([1] * 4, loss=[3.0, 2.0, 1.0, 1.0])]
    assert compare_systems(worse, [cell([1] * 4)], "loss", resamples=500).estimate == pytest.approx(3 / 16)


def test_a_system_without_seeds_is_compared_with_each():
    found = compare_systems([cell([4, 4, 4, 4]), cell([0, 0, 0, 0])], [cell([2, 2, 2, 2])], "accuracy", resamples=500)
    assert found.estimate == pytest.approx(0.0)
    assert found.seeds == 2


def test_what_cannot_be_paired_is_refused():
    with pytest.raises(UserError, match="different test sentences"):
        compare_systems([cell([1, 1], positions=(2, 2))], [cell([1, 1], positions=(2, 3))], "accuracy")
    with pytest.raises(UserError, match="2 and 3 seeds"):
        compare_systems([cell([1])] * 2, [cell([1])] * 3, "accuracy")


def test_holm_over_the_primary_comparisons_is_that_of_its_definition():
    adjusted = holm({"a": difference(0.01), "b": difference(0.04), "c": difference(0.03)})
    assert adjusted == pytest.approx({"a": 0.03, "c": 0.06, "b": 0.06})
    assert holm({}) == {}


@pytest.mark.parametrize(
    ("found", "adjusted", "said"),
    [
        (difference(0.001), 0.002, "gradient beats occurrence: +0.100"),
        (difference(0.001, estimate=-0.1), 0.002, "occurrence beats gradient: -0.100"),
        (difference(0.04), 0.08, "No difference shown between gradient and occurrence"),
        (difference(0.001, seeds=4), 0.002, "A claim needs 5 seeds: this is descriptive."),
    ],
)
def test_a_win_is_claimed_only_where_it_was_shown(found, adjusted, said):
    assert said in claim("gradient", "occurrence", found, adjusted)


def test_the_tables_correct_over_all_places_and_speak_of_the_primary_comparisons_alone():
    """Gradient is better in each sentence of each seed by a lot on one model, and not at all on the other."""
    cells = []
    for model, better in (("a", 2), ("b", 0)):
        for seed in range(5):
            for system, correct in (("gradient", 1 + better), ("occurrence", 1), ("ks", 3)):
                about = {"model": model, "pair": "en-ca", "system": system, "size": 18, "way": "partial", "seed": seed}
                cells.append(cell([correct] * 4, **about))
    *tables, said = selector_sections(cells, resamples=999)
    assert [table.title for table in tables[::2]] == ["a, en-ca", "b, en-ca"]
    no_prompt, won, not_won, *_ = said.sentences
    assert no_prompt.startswith("No token prompt of a, b")
    assert won.startswith("gradient at 18 rows on a, en-ca beats occurrence: +0.500")
    assert "p 0.004 by Holm" in won  # 2 x 2 / 1000, for two comparisons
    assert not_won.startswith("No difference shown")
    assert not any(sentence.startswith("ks") for sentence in said.sentences)
    assert "All other differences are descriptive." in " ".join(said.sentences)


def test_few_draws_of_random_rows_and_other_conditions_are_said():
    about = {"model": "a", "pair": "en-ca", "size": 4, "way": "partial"}
    cells = [
        cell([1] * 4, system="occurrence", seed=0, conditions={"threads": 1}, **about),
        cell([2] * 4, system="ks", seed=0, conditions={"threads": 2}, **about),
    ]
    said = " ".join(selector_sections(cells, resamples=99)[-1].sentences)
    assert "Random rows are one draw here" in said
    assert "2 different conditions" in said
    assert "one seed: sentences alone are resampled" in said
