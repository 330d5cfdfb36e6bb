"""The pool: what is drawn, what stays on one side, and which two texts are refused."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.stats import binomtest

from ks_lottery import Corpus, UserError, read_corpus, split
from ks_lottery.certification.pool import ENOUGH_DOCUMENTS, check_pool, draw, hash_order, held_out_pool
from ks_lottery.corpus.corpus import Pair
from ks_lottery.corpus.selection import hash_fraction, sentence_key
from ks_lottery.store.files import write_json

if TYPE_CHECKING:
    from pathlib import Path


def corpus_of(count: int, *, documents: int = 0, name: str = "text.tsv") -> Corpus:
    pairs = [Pair(f"sentence {i}", f"frase {i}", f"doc {i % documents}" if documents else "") for i in range(count)]
    return Corpus(tuple(pairs), "en", "ca", name)


def sources(corpus: Corpus) -> list[str]:
    return [pair.source for pair in corpus]


def test_every_pair_lands_once_in_the_order_of_the_text() -> None:
    text = corpus_of(100)
    found = draw(text, 30, 0)
    assert len(found.calibration) == 30
    for part in (found.calibration, found.report):
        assert sources(part) == [s for s in sources(text) if s in set(sources(part))]
    assert sorted(sources(found.calibration) + sources(found.report)) == sorted(sources(text))
    assert (found.unit, found.pool.units, found.pool.drawn, found.pool.seed) == ("sentence", 100, 30, 0)
    wanted = np.random.Generator(np.random.PCG64(0)).permutation(100)[:30]
    by_turn = [s for _, s in sorted(zip(found.order, sources(found.calibration), strict=True))]
    assert by_turn == [f"sentence {i}" for i in wanted]
    assert found.pool.fingerprint == text.fingerprint
    assert draw(text, 0.3, 0) == found
    assert draw(text, 30, 1).calibration != found.calibration
    assert "30 of its 100 sentences drawn at random, without replacement, with seed 0" in found.description


def test_each_sentence_is_drawn_as_often_as_any_other() -> None:
    text, counts = corpus_of(20), np.zeros(20)
    for seed in range(1000):
        counts[[int(s.split()[1]) for s in sources(draw(text, 5, seed).calibration)]] += 1
    assert counts.sum() == 5000
    assert min(binomtest(int(c), 1000, 0.25).pvalue for c in counts) > 1e-4 / 20


def test_copies_are_dropped_and_counted() -> None:
    text = corpus_of(50)
    twice = replace(text, pairs=(*text.pairs, *(Pair(p.source.upper() + " ", "x") for p in text.pairs[:7])))
    found = draw(twice, 20, 3)
    assert (found.calibration.pairs, found.report.pairs) == (
        draw(text, 20, 3).calibration.pairs,
        draw(text, 20, 3).report.pairs,
    )
    assert found.pool.dropped == 7
    assert "7 pairs with a source sentence that had already occurred dropped" in found.description
    keys = [{sentence_key(s) for s in sources(part)} for part in (found.calibration, found.report)]
    assert not keys[0] & keys[1]


def test_whole_documents_are_drawn_where_they_are_known_and_enough() -> None:
    text = corpus_of(1000, documents=2 * ENOUGH_DOCUMENTS)
    found = draw(text, 0.5, 0)
    assert (found.unit, found.pool.units, found.pool.drawn) == ("document", 2 * ENOUGH_DOCUMENTS, ENOUGH_DOCUMENTS)
    sides = [{pair.document for pair in part} for part in (found.calibration, found.report)]
    assert not sides[0] & sides[1]
    assert len(sides[0]) == ENOUGH_DOCUMENTS
    turns = {pair.document: turn for pair, turn in zip(found.calibration, found.order, strict=True)}
    assert [turns[pair.document] for pair in found.calibration] == list(found.order)
    assert sorted(turns.values()) == list(range(ENOUGH_DOCUMENTS))
    assert draw(text, 500, 0) == found
    assert f"{ENOUGH_DOCUMENTS} of its {2 * ENOUGH_DOCUMENTS} documents" in found.description


def test_too_few_or_unknown_documents_are_said() -> None:
    few = draw(corpus_of(1000, documents=2 * ENOUGH_DOCUMENTS - 2), 0.5, 0)
    assert few.unit == "sentence"
    assert "is below 59. So sentences were drawn, and the guarantee is valid for these" in few.description
    text = corpus_of(1000, documents=2 * ENOUGH_DOCUMENTS)
    some = replace(text, pairs=(replace(text.pairs[0], document=""), *text.pairs[1:]))
    assert draw(some, 0.5, 0).unit == "sentence"
    assert "documents are not known" in draw(some, 0.5, 0).description


@pytest.mark.parametrize("calibration", [0, 10, 11, -1, 0.0, 1.0, 0.01, 0.99, float("nan")])
def test_a_draw_that_leaves_a_part_empty_is_refused(calibration: float) -> None:
    with pytest.raises(UserError, match=r"calibration"):
        draw(corpus_of(10), calibration, 0)


def test_texts_that_share_a_sentence_are_refused() -> None:
    text = corpus_of(20)
    report = replace(text, pairs=(Pair("SENTENCE  3", "x"), Pair("sentence 5", "y"), Pair("new", "z")), origin="b.tsv")
    for same in (True, False):
        with pytest.raises(
            UserError, match=r"2 of the 20 source sentences of text.tsv are also in b.tsv, .*'sentence 3'"
        ):
            check_pool(text, report, same_pool=same)


def test_two_texts_of_unknown_origin_are_refused_unless_the_user_vouches() -> None:
    one, other = corpus_of(20, name="a.tsv"), replace(corpus_of(40), origin="b.tsv")
    other = replace(other, pairs=other.pairs[20:])
    with pytest.raises(UserError, match=r"not known that a.tsv and b.tsv are random parts of one text.*`same_pool`"):
        check_pool(one, other)
    pool = check_pool(one, other, same_pool=True)
    assert (pool.unit, pool.units, pool.drawn, pool.seed) == ("sentence", 40, 20, None)
    assert "the user's word" in pool.how
    assert pool.fingerprint != check_pool(other, one, same_pool=True).fingerprint


def test_the_user_vouches_for_documents() -> None:
    text = corpus_of(40, documents=10)
    parts = [
        replace(text, pairs=tuple(p for p in text if (int(p.document[4:]) < 4) is side), origin=name)
        for side, name in ((True, "a"), (False, "b"))
    ]
    pool = check_pool(*parts, same_pool=True)
    assert (pool.unit, pool.units, pool.drawn) == ("document", 10, 4)
    half = [replace(text, pairs=text.pairs[:20]), replace(text, pairs=text.pairs[20:])]
    assert check_pool(*half, same_pool=True).unit == "sentence"


def test_an_empty_calibration_is_one_sentence() -> None:
    with pytest.raises(UserError, match=r"text.tsv holds no sentence to calibrate on"):
        check_pool(corpus_of(0), corpus_of(5), same_pool=True)


def run_folder(folder: Path, count: int = 200, cut: int | None = None, seed: int = 0) -> tuple[Corpus, Corpus]:
    parts = split(corpus_of(count), seed=seed)
    held_out = {"calibration": len(parts.calibration), "test": len(parts.test)}
    parts = replace(parts, test=parts.test if cut is None else parts.test.head(cut), uncut=parts.test)
    for name in ("train", "calibration", "test"):
        getattr(parts, name).save(folder / "text" / f"{name}.jsonl")
    sizes = {name: len(getattr(parts, name)) for name in ("train", "calibration", "test")}
    write_json(folder / "text" / "report.json", {"split": sizes, "held_out": held_out, "split_seed": seed})
    return read(folder, "calibration"), read(folder, "test")


def read(folder: Path, part: str) -> Corpus:
    return read_corpus(folder / "text" / f"{part}.jsonl", source_language="en", target_language="ca")


@pytest.mark.parametrize("seed", [0, 3])
@pytest.mark.parametrize("cut", [None, 5])
def test_the_split_of_a_run_is_one_pool(tmp_path: Path, cut: int | None, seed: int) -> None:
    calibration, report = run_folder(tmp_path, cut=cut, seed=seed)
    pool = check_pool(calibration, report)
    assert (pool.unit, pool.drawn, pool.seed) == ("sentence", len(calibration), seed)
    assert f"split by a hash of the source sentence with seed {seed}" in pool.how
    parts = split(corpus_of(200), seed=seed)
    assert pool.units == pool.counted == len(parts.calibration) + len(parts.test)  # before the test text was cut
    assert check_pool(calibration, report.head(3)).drawn == len(calibration)
    # The order of the draw is that of the hashes.
    by_turn = [pair.source for _, pair in sorted(zip(hash_order(calibration, pool), calibration, strict=True))]
    assert by_turn == sorted(sources(calibration), key=lambda source: hash_fraction(source, seed))


def test_a_run_that_does_not_say_what_was_cut_has_a_pool_of_unknown_size(tmp_path: Path) -> None:
    calibration, report = run_folder(tmp_path)
    sizes = {"calibration": len(calibration), "test": len(report)}
    write_json(tmp_path / "text" / "report.json", {"split": sizes})
    assert check_pool(calibration, report).counted is None


def test_the_pool_of_a_run_is_what_calibration_was_drawn_from() -> None:
    parts = split(corpus_of(400))
    whole = len(parts.calibration) + len(parts.test)
    cut = replace(parts, test=parts.test.head(20), uncut=parts.test)
    report = {"origin": "text.tsv", "fingerprint": "f" * 64, "split_seed": 0}
    pool = held_out_pool(cut, report)
    assert (pool.units, pool.drawn, pool.seed) == (whole, len(parts.calibration), 0)
    assert f"{len(parts.calibration)} of {whole} held-out sentences" in pool.how
    assert held_out_pool(parts, report) == pool


def test_files_that_only_look_like_a_run_are_refused(tmp_path: Path) -> None:
    calibration, report = run_folder(tmp_path)
    for bad in (
        (report, calibration),  # the wrong way round
        (read(tmp_path, "train"), report),
        (calibration.head(5), report),  # the first sentences are no random part
        (replace(calibration, origin=str(tmp_path / "other" / "calibration.jsonl")), report),
        (calibration, replace(report, pairs=(*report.pairs[:-1], read(tmp_path, "train").pairs[0]))),  # edited
    ):
        with pytest.raises(UserError, match="it is not known that"):
            check_pool(*bad)
    (tmp_path / "text" / "report.json").unlink()
    with pytest.raises(UserError, match="it is not known that"):
        check_pool(calibration, report)
