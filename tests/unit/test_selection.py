"""Holding out a part of a text: each pair once, copies of a sentence together, the same ones whatever else the text has."""

from __future__ import annotations

import pytest

from ks_lottery import Corpus, UserError
from ks_lottery.corpus.corpus import Pair
from ks_lottery.corpus.selection import hold_out, keep_useful, split


def corpus_of(sources: list[str]) -> Corpus:
    return Corpus(tuple(Pair(s, f"t {s}") for s in sources), "en", "ca", "test", {"empty": 3})


SOURCES = [f"sentence number {i}" for i in range(300)]


@pytest.mark.parametrize("share", [0.05, 0.3, 0.9])
def test_every_pair_is_on_one_side_in_its_order(share):
    corpus = corpus_of(SOURCES)
    rest, held_out = hold_out(corpus, share)
    sides = [[pair.source for pair in side] for side in (rest, held_out)]
    assert sides[0] == [s for s in SOURCES if s in set(sides[0])]
    assert sides[1] == [s for s in SOURCES if s in set(sides[1])]
    assert sorted(sides[0] + sides[1]) == sorted(SOURCES)
    assert len(held_out) == pytest.approx(300 * share, abs=40)
    assert {side.origin for side in (rest, held_out)} == {"test"}
    assert rest.left_out == corpus.left_out


def test_copies_stay_together_and_more_text_moves_nothing():
    copies = [s.upper().replace(" ", "  ") for s in SOURCES]
    before = {pair.source for pair in hold_out(corpus_of(SOURCES), 0.3)[1]}
    after = {pair.source for pair in hold_out(corpus_of([*copies, "another", *SOURCES]), 0.3)[1]}
    assert after & set(SOURCES) == before
    assert after & set(copies) == {s.upper().replace(" ", "  ") for s in before}
    # A larger share only adds.
    assert before <= {pair.source for pair in hold_out(corpus_of(SOURCES), 0.4)[1]}


@pytest.mark.parametrize(
    ("sources", "share", "message"),
    [
        (SOURCES, 0.0, r"validation share is 0\.0"),
        (SOURCES, 1.0, r"validation share is 1\.0"),
        (SOURCES, float("nan"), "validation share is nan"),
        (["a b c"], 1e-9, r"1 pairs gave no validation pair \(pairs are split by hash\)"),
        (["a b c"], 1 - 1e-9, "gave no training pair"),
        ([], 0.5, "gave no validation pair"),
    ],
)
def test_a_share_that_leaves_nothing_is_refused(sources, share, message):
    with pytest.raises(UserError, match=message):
        hold_out(corpus_of(sources), share)


def test_short_pairs_are_dropped_from_translations_alone():
    told = ["", "Translate the sentence to Catalan.", "Is this praise?", "Classify."]
    pairs = [Pair(f"Well done {n}", "Sí", instruction=instruction) for n, instruction in enumerate(told)]
    pairs.append(Pair("", "Red.", instruction="Name a colour."))
    kept, report = keep_useful(Corpus(tuple(pairs), "en", "ca", "test"), min_words=4)
    assert [pair.instruction for pair in kept] == [*told[2:], "Name a colour."]
    assert report.short == 2
    _, answered = keep_useful(Corpus(tuple(pairs[2:]), "en", "ca", "test"), min_words=4)
    assert "short ones are kept" in answered.sentence()


def test_one_input_under_two_instructions_is_no_repetition():
    told = ["Is it praise?", "Is it long?", "is it  long?"]
    pairs = [Pair("Well done", "Sí", instruction=instruction) for instruction in told]
    pairs += [Pair("", "Red.", instruction=instruction) for instruction in ("Name one.", "Name one.", "Name two.")]
    kept, report = keep_useful(Corpus(tuple(pairs), "en", "ca", "test"))
    assert [pair.instruction for pair in kept] == ["Is it praise?", "Is it long?", "Name one.", "Name two."]
    assert report.duplicate == 2


def test_instructions_without_a_source_are_split_by_themselves():
    pairs = [Pair("", "Red.", instruction=f"Name {n} colours.") for n in range(400)]
    parts = split(Corpus(tuple(pairs), "en", "ca", "test"))
    assert [len(part) for part in (parts.calibration, parts.test)] == pytest.approx([60, 60], abs=25)
    assert len({pair.instruction for part in (parts.train, parts.calibration, parts.test) for pair in part}) == 400
