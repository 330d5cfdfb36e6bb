"""Text survives being written by another tool and read back: sentence by sentence, in order."""

from __future__ import annotations

import csv
import json

from hypothesis import given
from hypothesis import strategies as st
from translate.storage.tmx import tmxfile

from ks_lottery import Corpus, read_corpus
from ks_lottery.corpus.corpus import Pair
from ks_lottery.corpus.languages import best_match, language_rank

CHARACTERS = st.characters(codec="utf-8", exclude_categories=["Cs", "Cc", "Zl", "Zp", "Zs"], include_characters=" ")
SENTENCES = st.text(CHARACTERS, min_size=1).map(lambda text: " ".join(text.split())).filter(bool)
PAIRS = st.lists(st.tuples(SENTENCES, SENTENCES), min_size=1, max_size=6)
CODES = st.sampled_from(
    ["en", "en-US", "en_GB", "eng", "English", "ca", "cat", "pt", "pt-BR", "pt_PT", "sr-Latn-RS", "sr_Latn"]
)


def read(path):
    corpus = read_corpus(path, source_language="en", target_language="ca")
    return [(pair.source, pair.target) for pair in corpus]


@given(pairs=PAIRS)
def test_saved_text(pairs, tmp_path_factory):
    file = tmp_path_factory.mktemp("a") / "a.jsonl"
    Corpus(tuple(Pair(s, t, instruction=t) for s, t in pairs), "en", "ca", "test").save(file)
    again = read_corpus(file, source_language="en", target_language="ca")
    assert [(pair.source, pair.target, pair.instruction) for pair in again] == [(s, t, t) for s, t in pairs]


@given(pairs=PAIRS)
def test_csv_of_the_standard_library(pairs, tmp_path_factory):
    file = tmp_path_factory.mktemp("a") / "a.csv"
    with file.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([("source", "target"), *pairs])
    assert read(file) == pairs


@given(pairs=PAIRS)
def test_alpaca_lists(pairs, tmp_path_factory):
    file = tmp_path_factory.mktemp("a") / "a.json"
    file.write_text(json.dumps([{"instruction": "x", "input": s, "output": t} for s, t in pairs]))
    assert read(file) == pairs


@given(pairs=PAIRS)
def test_memories_of_translate_toolkit(pairs, tmp_path_factory):
    file = tmp_path_factory.mktemp("a") / "a.tmx"
    store = tmxfile(sourcelanguage="en", targetlanguage="ca")
    for source, target in pairs:
        store.addtranslation(source, "en", target, "ca")
    store.savefile(str(file))
    written = tmxfile.parsefile(str(file))  # what XML cannot hold, the toolkit has left out
    assert read(file) == [(" ".join(unit.source.split()), " ".join(unit.target.split())) for unit in written.units]


@given(one=CODES, other=CODES)
def test_language_ranks(one, other):
    rank, back = language_rank(one, other), language_rank(other, one)
    assert back == {None: None, 0: 0, 1: 2, 2: 1}[rank]
    assert language_rank(one, one) == 0
    assert best_match([one], other) == (None if rank is None else one)
