"""A new evaluation against an old one: new minus old, whichever is better."""

from __future__ import annotations

import numpy as np
import pytest

from ks_lottery.evaluation.against import OtherEvaluation, compare_with_each
from ks_lottery.evaluation.predictions import Predictions


def predictions(right: int, sentences: int = 30, positions: int = 4) -> Predictions:
    """Return answers of which the first `right` positions of each sentence are as in the reference."""
    count = sentences * positions
    position = np.tile(np.arange(positions), sentences)
    label = np.full(count, 7)
    return Predictions(
        sentence=np.repeat(np.arange(sentences), positions), position=position, label=label,
        log_p=np.full(count, -1.0), first=np.where(position < right, 7, 8), second=np.full(count, 9),
        p_first=np.full(count, 0.5), p_second=np.full(count, 0.25), made_from={},
    )  # fmt: skip


@pytest.mark.parametrize(("new", "old", "gap"), [(3, 1, 50.0), (1, 3, -50.0), (2, 2, 0.0)])
def test_new_minus_old_in_accuracy_and_translations(new, old, gap):
    references = [f"sentence number {n} is here" for n in range(30)]
    texts = {3: references, 2: [text[:-5] for text in references], 1: ["nothing"] * 30}
    found = compare_with_each(
        "new", (texts[new], references), predictions(new),
        {"old": OtherEvaluation(hypotheses=texts[old], references=references, predictions=predictions(old))},
        metrics=["chrf"], spm=None, target_language="en", resamples=200, seed=0, confidence=0.95,
    )  # fmt: skip
    chrf, accuracy = found.differences
    assert accuracy.difference == pytest.approx(gap)
    assert accuracy.interval == pytest.approx((gap, gap))  # each sentence has the same gap
    assert np.sign(chrf.difference) == np.sign(gap)
    for one in found.differences:
        assert (one.system, one.baseline) == ("new", "old")
        assert one.difference == pytest.approx(one.score - one.baseline_score)
        assert (one.p_value <= 0.05) == (one.interval[0] > 0 or one.interval[1] < 0)
