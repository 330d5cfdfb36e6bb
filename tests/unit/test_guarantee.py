"""Losses of units, guarantees and choices: by their definitions written out, and what they refuse."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import beta, binom, hypergeom

from ks_lottery import UserError
from ks_lottery.certification.bounds import units_to_show, upper_loss
from ks_lottery.certification.certificate_sections import spelled_out
from ks_lottery.certification.choice import choose, fixed_order, nested_sizes
from ks_lottery.certification.guarantee import guarantee
from ks_lottery.certification.pool import Pool
from ks_lottery.certification.units import Wording, unit_losses
from ks_lottery.stats.betting import betting_pvalue, betting_upper
from ks_lottery.stats.finite import hypergeometric_upper
from ks_lottery.stats.risk import hoeffding_bentkus_upper

SENTENCES = Pool("news.tsv", "f" * 64, "sentence", 1000, 200, "200 drawn", 0)
DOCUMENTS = replace(SENTENCES, unit="document", units=400, drawn=60)


def positions(seed: int, sentences: int = 200, chance: float = 0.05):
    generator = np.random.default_rng(seed)
    sentence = np.repeat(np.arange(sentences), generator.integers(1, 21, sentences))
    return sentence, generator.random(len(sentence)) < chance


def test_losses_of_sentences() -> None:
    sentence = np.array([0, 0, 0, 2, 2, 5])  # 1, 3 and 4 have no position
    wrong = np.array([1, 0, 0, 0, 0, 1], dtype=bool)
    assert unit_losses(wrong, sentence, kind="share").tolist() == [1 / 3, 0.0, 1.0]
    assert unit_losses(wrong, sentence, kind="any").tolist() == [1.0, 0.0, 1.0]
    assert unit_losses([], [], kind="any").tolist() == []
    order = np.random.default_rng(0).permutation(6)
    assert unit_losses(wrong[order], sentence[order], kind="share").tolist() == [1 / 3, 0.0, 1.0]


def test_losses_of_documents() -> None:
    sentence, wrong = positions(1)
    names = [f"doc {i * 7 % 23}" for i in range(200)]
    by_sentence = {i: (wrong[sentence == i].mean(), wrong[sentence == i].any()) for i in range(200)}
    first = list(dict.fromkeys(names))
    members = {name: [i for i in range(200) if names[i] == name] for name in first}
    shares = unit_losses(wrong, sentence, kind="share", documents=names)
    assert shares == pytest.approx([np.mean([by_sentence[i][0] for i in members[name]]) for name in first])
    draws = np.array([unit_losses(wrong, sentence, kind="any", documents=names, seed=s) for s in range(400)])
    assert set(np.unique(draws)) == {0.0, 1.0}
    expected = np.array([np.mean([by_sentence[i][1] for i in members[name]]) for name in first])
    assert np.abs(draws.mean(axis=0) - expected).max() < 4.5 * 0.5 / np.sqrt(400)
    assert (draws[:, expected == 0] == 0).all()


def test_the_bounds_are_those_of_the_losses() -> None:
    sentence, wrong = positions(2)
    _, missed = positions(3, chance=0.3)
    missed = np.resize(missed, len(wrong))
    all_agree, agreement, accuracy = guarantee(~wrong, ~missed, sentence, delta=0.1, pool=SENTENCES)
    failures = sum(wrong[sentence == i].any() for i in range(200))
    assert all_agree.lower == pytest.approx(1 - beta.ppf(0.9, failures + 1, 200 - failures))
    assert all_agree.observed == pytest.approx(1 - failures / 200)
    for found, bad in ((agreement, wrong), (accuracy, missed)):
        shares = [bad[sentence == i].mean() for i in range(200)]
        assert found.observed == pytest.approx(1 - np.mean(shares))
        assert found.lower == pytest.approx(1 - hoeffding_bentkus_upper(sum(shares), 200, 0.1))
        assert found.lower < found.observed
    assert {(g.n, g.delta, g.unit) for g in (all_agree, agreement, accuracy)} == {(200, 0.1, "sentence")}
    # Where sentences were drawn their documents play no part.
    assert guarantee(~wrong, ~missed, sentence, delta=0.1, pool=SENTENCES, documents=["a"] * 200)[0] == all_agree


def test_what_is_said() -> None:
    sentence, _ = positions(0, sentences=59)
    right = np.ones(len(sentence), dtype=bool)
    pool = replace(SENTENCES, drawn=60)
    found = guarantee(right, right, sentence, delta=0.05, pool=pool)
    assert found[0].statement == (
        "With confidence 0.95 (over the draw of 59 sentences from news.tsv; 1 more without a position to count), the small "
        "model agrees with the tuned one at every position in at least 95.04% of the sentences. This is a guarantee: it needs "
        "only the random draw and makes no assumption about the models, unlike the bound of theorem 2."
    )
    assert (
        "agrees with the reference in at least 95.04% of the positions of a sentence, on average." in found[2].statement
    )
    assert 0.9504 <= found[0].lower < 0.9506
    shown = json.loads(json.dumps([g.as_dict() for g in found]))
    assert [s["bounded"] for s in shown] == ["all_agree", "agreement", "accuracy"]
    assert shown[1]["method"] == "Hoeffding-Bentkus"
    assert shown[0]["pool"]["name"] == "news.tsv"
    by_document = guarantee(right, right, sentence, delta=0.05, pool=DOCUMENTS, documents=list(range(59)), seed=4)
    assert "59 documents" in by_document[0].statement
    assert "of the sentences of a document, on average over the documents." in by_document[0].statement
    assert [g.seed for g in by_document] == [4, None, None]


def test_the_order_of_the_draw() -> None:
    sentence, wrong = positions(4, sentences=30)
    shares = unit_losses(wrong, sentence, kind="share")
    order = np.random.default_rng(5).permutation(30)
    drawn = unit_losses(wrong, sentence, kind="share", order=order.tolist())
    assert drawn[order].tolist() == shares.tolist()
    # A document is drawn with the first of its sentences.
    names = [f"doc {i % 7}" for i in range(30)]
    by_document = unit_losses(wrong, sentence, kind="share", documents=names)
    turn = [min(order[i] for i in range(30) if i % 7 == d) for d in range(7)]
    reordered = unit_losses(wrong, sentence, kind="share", documents=names, order=order.tolist())
    assert reordered.tolist() == by_document[np.argsort(turn)].tolist()
    whole = unit_losses(wrong, sentence, kind="any", documents=names, seed=3)
    assert unit_losses(wrong, sentence, kind="any", documents=names, order=order.tolist(), seed=3).tolist() == (
        whole[np.argsort(turn)].tolist()
    )
    with pytest.raises(ValueError, match="the order of 29 sentences is given"):
        unit_losses(wrong, sentence, kind="share", order=range(29))


def test_the_method_is_fixed_by_the_pool_and_not_by_the_losses() -> None:
    sentence, wrong = positions(6, sentences=90)
    known = replace(SENTENCES, units=185, drawn=90, counted=185)
    order = np.random.default_rng(7).permutation(90).tolist()

    def bounds(pool: Pool, **more):
        return guarantee(~wrong, ~wrong, sentence, delta=0.05, pool=pool, order=order, **more)

    finite, other, unknown = bounds(known), bounds(known, bounding="independent"), bounds(replace(known, counted=None))
    assert [g.method for g in finite] == [
        "hypergeometric",
        "betting without replacement",
        "betting without replacement",
    ]
    assert [g.method for g in other] == [g.method for g in unknown] == ["Clopper-Pearson", *2 * ["Hoeffding-Bentkus"]]
    assert [g.lower for g in other] == [g.lower for g in unknown]
    losses = unit_losses(wrong, sentence, kind="share", order=order)
    assert finite[1].lower == pytest.approx(1 - betting_upper(losses, 185, 0.05))
    failures = sum(wrong[sentence == i].any() for i in range(90))
    assert finite[0].lower == pytest.approx(1 - hypergeometric_upper(failures, 90, 185, 0.05))
    assert all(one.lower > two.lower for one, two in zip(finite, other, strict=True))
    # One sentence of each document is drawn too: its failures are not hypergeometric.
    names = [f"doc {i}" for i in range(90)]
    documents = replace(known, unit="document")
    assert [g.method for g in bounds(documents, documents=names)][:2] == [
        "Clopper-Pearson",
        "betting without replacement",
    ]
    with pytest.raises(ValueError, match="the order must be given"):
        guarantee(~wrong, ~wrong, sentence, delta=0.05, pool=known)
    with pytest.raises(ValueError, match="90 units were drawn from a pool of 80"):
        bounds(replace(known, counted=80))


@pytest.mark.parametrize(
    ("positions", "all_agree", "share"),
    [
        (None, "agrees with the tuned one at every position in at least", "of the positions of a sentence"),
        (
            20,
            "agrees with the tuned one at each of the first 20 positions in at least",
            "of the first 20 positions of a sentence",
        ),
        (1, "agrees with the tuned one at the first position in at least", "of the first position of a sentence"),
    ],
)
def test_statements_name_the_positions_that_count(positions, all_agree: str, share: str) -> None:
    sentence = np.repeat(np.arange(80), 1 if positions == 1 else 20)
    right = np.ones(len(sentence), dtype=bool)
    found = guarantee(right, right, sentence, delta=0.05, pool=SENTENCES, positions=positions)
    assert all_agree in found[0].statement
    assert all(share in one.statement for one in found[1:])
    assert [one.as_dict()["positions"] for one in found] == 3 * [positions]
    choice = choose([np.zeros(80)], [10], 0.05, 0.05, pool=SENTENCES, positions=positions)
    assert share in choice.statement
    assert choice.as_dict()["positions"] == positions
    assert (
        share.removeprefix("of ")
        in choose([np.ones(80)], [10], 0.05, 0.05, pool=SENTENCES, positions=positions).statement
    )
    if positions is not None:
        with pytest.raises(ValueError, match=f"the first {positions} are to count"):
            guarantee([True] * (positions + 1), [True] * (positions + 1), [0] * (positions + 1), delta=0.05,
                      pool=SENTENCES, positions=positions)  # fmt: skip


def test_the_choice_in_a_pool_of_known_size() -> None:
    pool = replace(SENTENCES, units=185, drawn=90, counted=185)
    failing = [0, 1, 2, 30]
    losses = [np.repeat([1.0, 0.0], [k, 90 - k]) for k in failing]
    found = choose(losses, [4, 3, 2, 1], 0.05, 0.05, pool=pool, kind="any")
    # More than 0.05 of 185 are 10 at least.
    assert found.pvalues == pytest.approx([hypergeom(185, 10, 90).cdf(k) for k in failing])
    assert (found.passed, found.method) == (2, "hypergeometric")
    shares = choose(losses, [4, 3, 2, 1], 0.05, 0.05, pool=pool)
    assert shares.pvalues == pytest.approx([float(betting_pvalue(x, 185, 0.05, 0.05)) for x in losses])
    # A pool that is not large needs fewer of its units.
    small = replace(SENTENCES, units=120, drawn=41, counted=120)
    assert choose([np.zeros(41)], [10], 0.05, 0.05, pool=small, kind="any").size == 10
    with pytest.raises(UserError, match="41 are needed"):
        choose([np.zeros(40)], [10], 0.05, 0.05, pool=small, kind="any")


def test_what_is_spelled_out() -> None:
    def of(model: str, *lowers: float) -> list[dict]:
        names = ("all_agree", "agreement", "accuracy")
        return [{"model": model, "bounded": b, "lower": x} for b, x in zip(names, lowers, strict=True)]

    tickets = {"original": 0, "small": 9, "middle": 85, "all": 2105}
    several = [
        *of("original", 0.2, 0.3, 0.1),
        *of("small", 0.0, 0.0, 0.0),
        *of("middle", 0.0, 0.3, 0.1),
        *of("all", 0.9, 0.9, 0.5),
    ]
    found = spelled_out(several, tickets)
    assert (found["model"], found["bounded"]) == ("middle", "agreement")
    found = spelled_out([one for one in several if one["lower"] == 0 and one["model"] != "middle"], tickets)
    assert (found["model"], found["bounded"]) == ("small", "all_agree")


def test_what_is_refused() -> None:
    sentence, wrong = positions(0)
    for delta in (0.0, 1.0, -1.0, 2.0, float("nan")):
        with pytest.raises(UserError, match=r"^delta is .*, but must be above 0 and below 1$"):
            guarantee(wrong, wrong, sentence, delta=delta, pool=SENTENCES)
    with pytest.raises(UserError, match=r"news.tsv: no calibration sentence has a position to count: give more text"):
        guarantee([], [], [], delta=0.05, pool=SENTENCES)
    with pytest.raises(ValueError, match="one shape"):
        guarantee(wrong[1:], wrong, sentence, delta=0.05, pool=SENTENCES)
    with pytest.raises(ValueError, match="document of each sentence must be given"):
        guarantee(wrong, wrong, sentence, delta=0.05, pool=DOCUMENTS)
    with pytest.raises(ValueError, match="sentence 199 needs its own"):
        guarantee(wrong, wrong, sentence, delta=0.05, pool=DOCUMENTS, documents=["a"] * 199)


def test_nothing_is_claimed_where_nearly_all_fail() -> None:
    sentence = np.arange(20)
    for right, lower in ((0, 0.0), (1, 0.0)):
        agree = sentence < right
        assert guarantee(agree, agree, sentence, delta=0.05, pool=SENTENCES)[0].lower == lower
    agree = sentence < 2
    assert guarantee(agree, agree, sentence, delta=0.05, pool=SENTENCES)[0].lower > 0.0
    one = guarantee([True], [True], [0], delta=0.05, pool=SENTENCES)[0]
    assert one.lower == pytest.approx(0.05)


def test_the_smallest_set_that_passes_is_chosen() -> None:
    n = 200
    losses = [np.zeros(n), np.repeat([0.25, 0.0], [8, n - 8]), np.repeat([1.0, 0.0], [9, n - 9]), np.zeros(n)]
    found = choose(losses, [400, 300, 200, 100], 0.05, 0.05, pool=SENTENCES)
    assert (found.passed, found.chosen, found.size) == (2, 1, 300)  # the last would pass, and is not asked
    assert found.observed == pytest.approx((0.0, 0.01, 0.045, 0.0))
    assert found.pvalues[3] == pytest.approx(0.95**n)
    assert (
        "300 tickets differs from the tuned one in at most 0.05 of the positions of a sentence, on average"
        in found.statement
    )
    exact = choose([np.ceil(x) for x in losses], [400, 300, 200, 100], 0.05, 0.1, pool=SENTENCES, kind="any")
    assert exact.pvalues == pytest.approx([binom.cdf(k, n, 0.05) for k in (0, 8, 9, 0)])
    assert exact.passed == 1
    assert "tickets differs from the tuned one at any position in at most 0.05 of the sentences" in (exact.statement)
    shown = json.loads(json.dumps(found.as_dict()))
    assert shown["size"] == 300
    assert shown["method"] == "Learn then Test, fixed sequence, Hoeffding-Bentkus"


def test_none_passed_is_said() -> None:
    found = choose([np.full(100, 0.5)], [10], 0.05, 0.05, pool=SENTENCES)
    assert (found.passed, found.chosen, found.size) == (0, None, None)
    assert found.statement.startswith("No ticket set was chosen: 100 sentences of news.tsv cannot prove, at delta 0.05")
    assert found.as_dict()["chosen"] is None


@pytest.mark.parametrize("kind", ["any", "share"])
def test_a_budget_that_cannot_reach_epsilon_is_refused(kind) -> None:
    with pytest.raises(
        UserError, match=r"^58 calibration sentences are too few: .* a loss below 0.05 at delta 0.05\. 59 are"
    ):
        choose([np.zeros(58)], [10], 0.05, 0.05, pool=SENTENCES, kind=kind)
    assert choose([np.zeros(59)], [10], 0.05, 0.05, pool=SENTENCES, kind=kind).size == 10


def test_a_choice_refuses() -> None:
    zeros = np.zeros(100)
    for epsilon, delta, name in (
        (0.0, 0.1, "epsilon"),
        (1.0, 0.1, "epsilon"),
        (0.1, 0.0, "delta"),
        (0.1, 1.5, "delta"),
    ):
        with pytest.raises(UserError, match=rf"^{name} is"):
            choose([zeros], [10], epsilon, delta, pool=SENTENCES)
    for sizes in ([10, 20], [10, 10], []):
        with pytest.raises(ValueError, match="largest to the smallest"):
            choose([zeros] * len(sizes), sizes, 0.05, 0.05, pool=SENTENCES)
    for losses in ([zeros], [zeros, zeros[1:]], [zeros, 1.0]):
        with pytest.raises(ValueError, match="same units"):
            choose(losses, [20, 10], 0.05, 0.05, pool=SENTENCES)
    with pytest.raises(ValueError, match="in \\[0, 1\\]"):
        choose([zeros + 1.5], [10], 0.05, 0.05, pool=SENTENCES)
    with pytest.raises(ValueError, match="0 or 1"):
        choose([zeros + 0.5], [10], 0.05, 0.05, pool=SENTENCES, kind="any")


def test_nested_sets() -> None:
    assert nested_sizes([np.arange(10), np.array([3, 1]), np.array([1])]) == (10, 2, 1)
    for bad in ([[1, 2], [3]], [[1, 2], [2, 1]], [[1], [1, 2]]):
        with pytest.raises(ValueError, match="ticket set 2 of 2 is no proper part"):
            nested_sizes(bad)


def test_the_change_of_accuracy_is_bounded_by_pairs() -> None:
    sentence, wrong = positions(8, sentences=90, chance=0.3)
    tuned_wrong = wrong & (np.random.default_rng(9).random(len(wrong)) < 0.8)
    order = np.random.default_rng(10).permutation(90)
    known = replace(SENTENCES, units=185, drawn=90, counted=185)
    names = Wording(small="q8", tuned="full", reference="the text", generates="gives the same output as", meaning="So.")
    same = np.arange(90) % 9 > 0
    found = guarantee(
        ~wrong, ~wrong, sentence, delta=0.05, pool=known, order=order.tolist(), tuned_correct=~tuned_wrong, generated=same,
        words=names,
    )  # fmt: skip
    change, generated = found[3:]
    losses = np.array([wrong[sentence == i].mean() - tuned_wrong[sentence == i].mean() for i in range(90)])
    assert change.observed == pytest.approx(-losses.mean())
    assert change.lower == pytest.approx(1 - 2 * betting_upper((1 + losses[np.argsort(order)]) / 2, 185, 0.05))
    assert change.lower < change.observed < 0
    points = float(re.search(r"is at most ([\d.]+) percentage points below that of full", change.statement)[1])
    assert 0 <= points / 100 + change.lower < 1e-4 + 1e-12  # rounded away from the figure, so that what is said holds
    assert "in which q8 agrees with the text is at most" in change.statement
    assert change.statement.endswith(". So.")
    assert generated.lower == pytest.approx(1 - hypergeometric_upper(10, 90, 185, 0.05))
    assert "q8 gives the same output as full for at least" in generated.statement
    gained = guarantee(
        np.ones(len(wrong)), np.ones(len(wrong)), sentence, delta=0.05, pool=known, order=order.tolist(),
        tuned_correct=~wrong, words=names,
    )[3]  # fmt: skip
    assert (
        0 < gained.lower < gained.observed == pytest.approx(np.mean([wrong[sentence == i].mean() for i in range(90)]))
    )
    assert "percentage points above that of full" in gained.statement


@pytest.mark.parametrize("pool", [replace(SENTENCES, counted=None), replace(SENTENCES, counted=1000)])
@pytest.mark.parametrize("epsilon", [0.05, 0.2])
def test_how_many_units_show_a_paired_loss(pool: Pool, epsilon: float) -> None:
    """As many as are said are enough where nothing is lost, and one fewer is not."""
    needed = units_to_show(epsilon, 0.05, "paired", pool)
    assert upper_loss(np.zeros(needed), "paired", pool, 0.05) <= epsilon + 1e-12
    assert upper_loss(np.zeros(needed - 1), "paired", pool, 0.05) > epsilon
    with pytest.raises(UserError, match=f"{needed:,} are needed"):
        fixed_order([np.zeros(needed - 1)], epsilon, 0.05, pool=pool, kind="paired")
    passed = fixed_order([np.zeros(needed), np.ones(needed)], epsilon, 0.05, pool=pool, kind="paired")
    assert (passed.passed, passed.observed) == (1, (0.0, 1.0))
    with pytest.raises(ValueError, match=r"must be in \[-1, 1\]"):
        fixed_order([np.full(needed, 1.5)], epsilon, 0.05, pool=pool, kind="paired")
