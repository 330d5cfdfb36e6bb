"""The noun `Corpus`: content, equality, one line, and the way to disk and back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ks_lottery import Corpus, read_corpus
from ks_lottery.corpus.corpus import Pair

PAIRS = (Pair("The house", "La casa", "a.txt"), Pair("The dog", "El gos", instruction="Translate."))


@pytest.fixture
def corpus():
    return Corpus(PAIRS, "en", "ca", "a.tsv", {"empty": 2})


def test_a_corpus_is_its_content(corpus):
    again = Corpus(tuple(PAIRS), "en", "ca", "a.tsv", {"empty": 2})
    assert corpus == again
    assert {corpus: 1}[again] == 1
    for other in (corpus.head(1), replace(corpus, target_language="es"), corpus.with_instruction("Do it.")):
        assert other != corpus
        assert other.fingerprint != corpus.fingerprint


def test_one_line(corpus):
    assert repr(corpus) == "Corpus(2 pairs, en to ca, from a.tsv)"
    assert "\n" not in repr(replace(corpus, pairs=PAIRS * 1000))


def test_to_disk_and_back(corpus, tmp_path):
    corpus.save(tmp_path / "a.jsonl")
    again = read_corpus(tmp_path / "a.jsonl", source_language="en", target_language="ca")
    assert again.pairs == corpus.pairs
    assert again.fingerprint == corpus.fingerprint
