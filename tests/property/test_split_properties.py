"""Filter and split: no sentence in two parts, nothing dropped without being counted, whatever the text."""

from __future__ import annotations

import hashlib
import re
import string
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ks_lottery import Corpus, UserError, keep_useful, split
from ks_lottery.corpus.corpus import Pair
from ks_lottery.corpus.selection import hash_fraction, sentence_key

PARTS = ("train", "calibration", "test")


def corpus_of(sources: list[str]) -> Corpus:
    return Corpus(tuple(Pair(s, f"t {s}") for s in sources), "en", "ca", "test")


def places(corpus: Corpus) -> dict[str, str]:
    parts = split(corpus)
    return {pair.source: name for name in PARTS for pair in getattr(parts, name)}


ENOUGH = [f"sentence number {i}" for i in range(100)]


@given(st.lists(st.text(min_size=1, max_size=20), max_size=20), st.randoms())
def test_every_pair_lands_once_and_copies_together(extra: list[str], random) -> None:
    copies = [f"  {s.upper()} \n" for s in ENOUGH] + [s.replace(" ", "\t\u00a0") for s in ENOUGH]
    sources = [*dict.fromkeys([*ENOUGH, *extra, *copies])]
    found = places(corpus_of(sources))
    assert set(found) == set(sources)
    by_key: dict[str, set[str]] = {}
    for source, part in found.items():
        by_key.setdefault(sentence_key(source), set()).add(part)
    assert all(len(parts) == 1 for parts in by_key.values())
    random.shuffle(sources)
    assert places(corpus_of(sources)) == found  # the order of the text moves nothing
    assert places(corpus_of([*sources, "one more sentence"])).items() >= found.items()  # nor does more text


@given(st.text(alphabet=string.ascii_letters + " \t\n", max_size=30))
@example(" Save the  PAGE")
def test_the_hash_is_the_published_one(sentence: str) -> None:
    """56 of the 256 bits of SHA-256 over letters in lower case, as a fraction of all that 56 bits can say."""
    letters = re.sub(r"\s", "", sentence).lower()
    bits = f"{int(hashlib.sha256(letters.encode('ascii')).hexdigest(), 16):0256b}"
    assert hash_fraction(sentence) == float(Fraction(int(bits[:56], 2), 2**56))


@given(st.text(max_size=20), st.integers(1, 2**32 - 1))
@example("1 a", 0)
def test_the_hash_of_a_seed_is_salted_by_it(sentence: str, seed: int) -> None:
    salted = (f"{seed} " if seed else "") + sentence_key(sentence)
    bits = f"{int(hashlib.sha256(salted.encode()).hexdigest(), 16):0256b}"
    assert hash_fraction(sentence, seed) == float(Fraction(int(bits[:56], 2), 2**56))
    assert hash_fraction(sentence.upper(), seed) == hash_fraction(sentence.upper() + " ", seed)


def test_seeds_split_independently_and_0_is_today_s_split() -> None:
    corpus = corpus_of([f"a {i}" for i in range(4000)])
    assert split(corpus, seed=0) == split(corpus)
    parts = [split(corpus, seed=seed) for seed in range(3)]
    for one in parts:
        keys = [{sentence_key(pair.source) for pair in getattr(one, name)} for name in PARTS]
        assert sum(map(len, keys)) == len(set().union(*keys)) == 4000
    tests = [{pair.source for pair in one.test} for one in parts]
    # 15% of 4000 in each; two independent draws share 15% of that, 90, with a standard deviation below 10.
    assert all(40 < len(tests[i] & tests[j]) < 140 for i, j in ((0, 1), (0, 2), (1, 2)))


def test_shares_are_about_what_was_asked_for() -> None:
    parts = split(corpus_of([f"a {i}" for i in range(4000)]), calibration=0.2, test=0.1)
    assert len(parts.test) == pytest.approx(400, abs=80)
    assert len(parts.calibration) == pytest.approx(800, abs=110)


def test_an_empty_part_is_refused() -> None:
    with pytest.raises(UserError, match="leave none for"):
        split(corpus_of(["only one"]))


@given(st.lists(st.tuples(st.text(max_size=30), st.text(max_size=30)), max_size=30), st.integers(0, 5))
def test_everything_dropped_is_counted(pairs: list[tuple[str, str]], words: int) -> None:
    corpus = Corpus(tuple(Pair(s, t) for s, t in pairs), "en", "ca", "test")
    kept, report = keep_useful(corpus, min_words=words)
    assert report.read == len(pairs)
    assert report.kept == len(kept)
    assert report.kept + report.short + report.placeholder + report.markup + report.duplicate == report.read
    keys = [sentence_key(pair.source) for pair in kept]
    assert len(set(keys)) == len(keys)
    assert all(len(text.split()) >= words for pair in kept for text in (pair.source, pair.target))


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("Hello %s my friend", "placeholder"),
        ("Hello %(name)s my friend", "placeholder"),
        ("Hello {name} my friend", "placeholder"),
        ("Hello ${name} my friend", "placeholder"),
        ("Hello <b>my dear</b> friend", "markup"),
        ("Hello my &nbsp; dear friend", "markup"),
        ("See https://example.org for more", "markup"),
        ("Hello my friend", "short"),
        ("save THIS  page now", "duplicate"),
        ("It is 5 < 6 and 7 > 3", "kept"),
        ("Tom & Jerry; both are here", "kept"),
        ("Up to 50 percent of it", "kept"),
        ("It costs 5$ a day here", "kept"),
    ],
)
def test_reasons(source: str, reason: str) -> None:
    first = Pair("Save this page now", "Desa aquesta pàgina ara")
    corpus = Corpus((first, Pair(source, "Un dos tres quatre")), "en", "ca", "test")
    report = keep_useful(corpus)[1].as_dict()
    assert report[reason] == (2 if reason == "kept" else 1), report


def test_words_are_not_counted_where_none_are_written() -> None:
    corpus = Corpus((Pair("Please enter your password", "请输入您的密码"),), "en", "zh", "test")
    assert len(keep_useful(corpus)[0]) == 1
