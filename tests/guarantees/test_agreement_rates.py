"""How often the bounds of `agree` fail, by Monte Carlo over the draw: the truth is that of the pool.

Must never pass by chance nor fail by it: seeds are fixed, and a rate is held to its bound at one in ten thousand.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from ks_lottery import Corpus, Pair, Predictions
from ks_lottery.certification.agree_spec import BOUNDED, AgreeSpec
from ks_lottery.certification.calibration import Calibration
from ks_lottery.certification.candidates import TUNED
from ks_lottery.certification.model_choice import choose_model
from ks_lottery.certification.pool import draw
from ks_lottery.stats.betting import betting_upper
from ks_lottery.stats.risk import hoeffding_bentkus_upper

REPEATS, SIZE, DRAWN, DELTA = 1000, 160, 70, 0.1


def rate_is_at_most(violated: np.ndarray, delta: float) -> None:
    count = int(np.sum(violated))
    assert len(violated) == REPEATS
    assert binomtest(count, REPEATS, delta, alternative="greater").pvalue > 1e-4, f"{count} of {REPEATS} at {delta}"


class Family:
    """A reference and candidates on a pool of sentences of 1 to 20 positions: every answer is fixed, so the truth is known."""

    def __init__(self, seed: int, differs: dict[str, float], *, gain: float = 0.0) -> None:
        """`differs` is how often a candidate leaves the reference's answer, in sentences that share a fate."""
        generator = np.random.default_rng(seed)
        self.length = generator.integers(1, 21, SIZE)
        sentence = np.repeat(np.arange(SIZE), self.length)
        label = generator.integers(0, 50, len(sentence))
        right = generator.random(len(sentence)) < 0.4
        answers = {TUNED: np.where(right, label, 50 + label)}
        hard = generator.beta(0.5, 2.0, SIZE)[sentence] * 5
        self.same: dict[str, np.ndarray] = {}
        for name, rate in differs.items():
            leaves = generator.random(len(sentence)) < rate * hard
            becomes = np.where(generator.random(len(sentence)) < gain, label, 100 + label)
            answers[name] = np.where(leaves, becomes, answers[TUNED])
            self.same[name] = generator.random(SIZE) > 3 * rate
        self.names = list(differs)
        self.sentence, self.label, self.answers = sentence, label, answers
        pairs = tuple(Pair(f"s {i}", f"t {i}") for i in range(SIZE))
        self.corpus = Corpus(pairs, "en", "ca", "pool")

    def truth(self, name: str) -> dict[str, float]:
        """Return what each guarantee bounds, in the whole pool, written out sentence by sentence."""
        own, other = self.answers[name], self.answers[TUNED]
        by = [self.sentence == i for i in range(SIZE)]
        return {
            "all_agree": float(np.mean([(own[at] == other[at]).all() for at in by])),
            "agreement": float(np.mean([(own[at] == other[at]).mean() for at in by])),
            "accuracy": float(np.mean([(own[at] == self.label[at]).mean() for at in by])),
            "accuracy_change": float(
                np.mean([(own[at] == self.label[at]).mean() - (other[at] == self.label[at]).mean() for at in by])
            ),
            "generated": float(self.same[name].mean()),
        }

    def drawn(self, seed: int, *, bounding: str = "finite") -> tuple[Calibration, dict[str, np.ndarray]]:
        part = draw(self.corpus, DRAWN, seed=seed)
        ids = np.array([int(pair.source[2:]) for pair in part.calibration])
        at = np.concatenate([np.flatnonzero(self.sentence == i) for i in ids])
        index = np.repeat(np.arange(DRAWN), self.length[ids])
        zero = np.zeros(len(at))
        answers = {
            name: Predictions(
                sentence=index, position=np.zeros(len(at), dtype=np.int64), label=self.label[at], log_p=zero,
                first=first[at], second=first[at], p_first=zero, p_second=zero, made_from={},
            )
            for name, first in self.answers.items()
        }  # fmt: skip
        calibration = Calibration(
            answers=answers, pool=part.pool, order=part.order, documents=[], positions=None, delta=DELTA, epsilon=None,
            loss="share", bounding=bounding, seed=seed, text="",
        )  # fmt: skip
        return calibration, {name: same[ids] for name, same in self.same.items()}


POOLS = {
    "close": ({"q8": 0.01}, 0.0),
    "worse": ({"q4": 0.1}, 0.0),
    "moved both ways": ({"other": 0.2}, 0.5),
    "better": ({"tuned further": 0.15}, 0.95),
    "equal": ({"merged": 0.0}, 0.0),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "bounding"), [*((name, "finite") for name in POOLS), ("worse", "independent"), ("equal", "independent")]
)
def test_every_bound_of_a_pair_fails_no_more_often_than_delta(name: str, bounding: str) -> None:
    differs, gain = POOLS[name]
    family = Family(21, differs, gain=gain)
    (candidate,) = family.names
    truth = family.truth(candidate)
    lower = {bounded: np.zeros(REPEATS) for bounded in truth}
    for r in range(REPEATS):
        calibration, same = family.drawn(r, bounding=bounding)
        for bound in calibration.guarantees_of(candidate, paired=True, generated=same[candidate]):
            lower[bound.bounded][r] = bound.lower
    for bounded, values in lower.items():
        rate_is_at_most(values > truth[bounded] + 1e-12, DELTA)
        assert (values <= 1).all()
    if name == "equal" and bounding == "finite":
        assert (
            lower["accuracy_change"].max() < 0
        )  # nothing lost in 70 of 160 sentences does not show that nothing is lost
        assert lower["accuracy_change"].min() > -0.03
    if name == "better" and bounding == "finite":
        assert (lower["accuracy_change"] > 0).mean() > 0.5  # a gain is shown too
    if name == "worse" and bounding == "finite":
        assert (lower["all_agree"] > truth["all_agree"]).mean() > DELTA / 20  # the bounds are not empty


def test_the_paired_bound_is_tighter_than_two_separate_ones() -> None:
    """Each of the two at half of delta, so that both hold together as often as the paired one."""
    family = Family(21, {"q8": 0.01})
    paired, apart = np.zeros((2, 200))
    for r in range(200):
        calibration, _ = family.drawn(r)
        paired[r] = calibration.guarantees_of("q8", paired=True)[3].lower
        ours = replace(calibration, delta=DELTA / 2).guarantees_of("q8")[2].lower
        tuned = calibration.answers[TUNED]
        shares = [tuned.correct[tuned.sentence == i].mean() for i in np.argsort(calibration.order)]
        apart[r] = ours - float(betting_upper(shares, SIZE, DELTA / 2))
    assert (paired > apart).all()
    assert (paired - apart).mean() > 0.03


CHOICES = [(loss, "finite") for loss in BOUNDED] + [("share", "independent"), ("generated", "independent")]
"""The paired loss without the size of the pool needs thousands of sentences: its bound is tested below, by its definition."""


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "bounding"), CHOICES)
def test_the_chosen_model_exceeds_epsilon_no_more_often_than_delta(loss: str, bounding: str) -> None:
    """The loss of the third candidate, in this pool, is just above epsilon, so the first two may be chosen and no other."""
    last = {"q4": 0.2, "q2": 0.4} if loss == "accuracy" else {"q4": 0.07, "q2": 0.2}
    family = Family(23, {"q8": 0.002, "q6": 0.01, **last})
    losses = {name: (0.0 if loss == "accuracy" else 1.0) - family.truth(name)[BOUNDED[loss]] for name in family.names}
    epsilon = losses["q4"] - 1e-6
    assert max(losses["q8"], losses["q6"]) < epsilon < losses["q2"]
    spec = AgreeSpec(calibration=DRAWN, epsilon=epsilon, loss=loss, delta=DELTA, generate=True)
    wrongly, chosen = np.zeros((2, REPEATS))
    for r in range(REPEATS):
        calibration, same = family.drawn(r, bounding=bounding)
        choice = choose_model(calibration, "full", family.names, spec.loss, spec.epsilon, same)
        assert choice["model"] in {None, *family.names}
        wrongly[r], chosen[r] = choice["passed"] > 2, choice["passed"]
    rate_is_at_most(wrongly, DELTA)
    if bounding == "finite":
        assert (chosen > 0).mean() > 0.5  # and it does choose
    if bounding == "finite" and loss in {"any", "generated"}:
        assert wrongly.mean() > DELTA / 10  # close to its boundary, where the exact test spends its level


def test_the_order_counts_and_not_the_losses() -> None:
    """A small candidate with a small loss after one that fails is not chosen, whatever it loses."""
    family = Family(24, {"q8": 0.002, "broken": 0.2, "lucky": 0.0})
    spec = AgreeSpec(calibration=DRAWN, epsilon=0.1, delta=DELTA)
    calibration, same = family.drawn(3)
    choice = choose_model(calibration, "full", family.names, spec.loss, spec.epsilon, same)
    assert choice["model"] == "q8"
    assert choice["pvalues"][2] < DELTA < choice["pvalues"][1]
    assert "q8 differs from full in at most 0.1 of the positions of a sentence, on average" in choice["statement"]


def test_the_paired_bound_of_independent_units() -> None:
    """Losses in [-1, 1] with a known mean: few of 3,000 units change, up more often than down."""
    generator, n, delta = np.random.default_rng(25), 3000, 0.05
    down, up = 0.04, 0.02
    change = generator.random((REPEATS, n))
    losses = np.where(change < down, 1.0, np.where(change < down + up, -1.0, 0.0))
    upper = 2.0 * hoeffding_bentkus_upper((1.0 + losses).sum(axis=1) / 2.0, n, delta) - 1.0
    rate_is_at_most(down - up > upper, delta)
    assert upper.mean() < 0.08
