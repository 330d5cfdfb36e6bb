"""Holding out a part of a text: each pair once, copies of a sentence together, the same ones whatever else the text has."""

from __future__ import annotations

import pytest

from ks_lottery import Corpus, UserError
from ks_lottery.corpus.corpus import Pair
from ks_lottery.corpus.selection import hold_out


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
