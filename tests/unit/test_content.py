"""Nouns are equal by content: copies are, changed copies are not, and both work in sets and as keys."""

from __future__ import annotations

import copy
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from ks_lottery import (
    Attribution,
    Certificate,
    Checkpoint,
    Corpus,
    Evaluation,
    Pair,
    Predictions,
    RowPatch,
    Scan,
    Tickets,
)
from ks_lottery.certification.algorithm import Small, certify_predictions
from ks_lottery.config.settings import CertifyConfig
from ks_lottery.recipes.stage import Recipe, Stage
from ks_lottery.stats.two_sample import ks_test

IDS = np.array([3, 8, 21], dtype=np.int64)


def predictions() -> Predictions:
    whole, probability = np.array([0, 0, 1, 2]), np.array([0.9, 0.6, 0.5, 0.4])
    return Predictions(
        sentence=whole, position=np.array([0, 1, 0, 0]), label=whole, log_p=np.log(probability), first=whole,
        second=whole + 1, p_first=probability, p_second=probability / 2, made_from={"base": "a"},
    )  # fmt: skip


def patch() -> RowPatch:
    return RowPatch(
        IDS, torch.arange(12.0).reshape(3, 4), {"name": "base", "fingerprint": "f" * 64}, {"method": "embed"}
    )


def certificate(make_scan) -> Certificate:
    scan = make_scan([0, 5, 20, 2], 32)
    rows = np.array([1, 2])
    small = [Small("0.05", rows[:1], predictions(), 0.05), Small("mine", rows, predictions())]
    return certify_predictions(predictions(), predictions(), small, scan, config=CertifyConfig())


NOUNS = {
    "scan": (lambda make: make([0, 5, 20, 2], 32), lambda noun: replace(noun, counts=noun.counts + 1)),
    "tickets": (
        lambda make: Tickets(IDS, {"selector": "ks", "alpha": 0.05}, [{"count": 3}, {"count": 2}, {"count": 1}]),
        lambda noun: replace(noun, rows=noun.rows[::-1]),
    ),
    "predictions": (lambda make: predictions(), lambda noun: replace(noun, p_first=noun.p_first * 0.99)),
    "certificate": (
        certificate,
        lambda noun: replace(noun, columns={**noun.columns, "small": noun.columns["small"] + 1}),
    ),
    "attribution": (
        lambda make: Attribution(IDS, {"lca": np.ones(3), "gradient": np.array([3.0, 1, 2])}, IDS),
        lambda noun: replace(noun, scores={**noun.scores, "lca": np.zeros(3)}),
    ),
    "patch": (lambda make: patch(), lambda noun: replace(noun, values=noun.values + 1)),
    "corpus": (
        lambda make: Corpus((Pair("a b", "c"), Pair("d", "e", "doc")), "en", "ca", "here"),
        lambda noun: replace(noun, pairs=(*noun.pairs[:1], Pair("d", "e", "another"))),
    ),
    "evaluation": (
        lambda make: Evaluation(sentences=3, hypotheses=["x"], predictions=predictions()),
        lambda noun: replace(noun, hypotheses=["y"]),
    ),
}


@pytest.fixture(params=NOUNS)
def noun(request, make_scan):
    return NOUNS[request.param][0](make_scan), NOUNS[request.param][1]


def test_copies_are_equal_and_changed_copies_are_not(noun):
    first, changed = noun
    other, different = copy.deepcopy(first), changed(first)
    assert first == other
    assert hash(first) == hash(other)
    assert first != different
    assert not first == different  # noqa: SIM201 (both operators)
    assert first != "something else"
    assert first not in [different, None, 3]
    if not isinstance(first, Corpus):  # two corpora that differ in documents alone may share a hash
        assert hash(first) != hash(different)
    assert {first, other, different} == {different, first}
    assert {first: 1}[other] == 1
    assert different not in {first: 1}


def test_how_a_noun_was_made_does_not_count(noun):
    first, _ = noun
    if isinstance(first, Corpus):
        assert replace(first, origin="elsewhere", left_out={"empty": 3}) == first
    else:
        name = "settings" if isinstance(first, RowPatch) else "made_from"
        assert replace(first, **{name: {"elsewhere": "x"}}) == first


def test_the_base_of_a_patch_counts_by_its_fingerprint_and_not_by_its_name():
    assert replace(patch(), base={**patch().base, "name": "moved"}) == patch()
    assert replace(patch(), base={**patch().base, "fingerprint": "0" * 64}) != patch()
    assert replace(patch(), side="output") != patch()


def test_a_change_in_place_changes_the_fingerprint(make_scan):
    scan = make_scan([0, 5], 32)
    other = copy.deepcopy(scan)
    assert hash(scan) == hash(other)
    other.counts[0] = 7
    assert scan != other


def test_undefined_scores_are_equal_to_themselves(make_scan):
    scan = make_scan([0, 5], 32)
    holed = replace(scan, relative=np.array([np.nan, 1.0]))
    assert holed == copy.deepcopy(holed)
    assert holed != scan


def test_what_was_saved_and_opened_is_equal(noun, tmp_path):
    first, _ = noun
    if isinstance(first, Corpus):
        return
    target = {Scan: "scan.parquet", Tickets: "tickets.json", Predictions: "p.parquet"}.get(type(first), "folder")
    first = replace(first, hypotheses=None) if isinstance(first, Evaluation) else first
    first = replace(first, predictions=None) if isinstance(first, Evaluation) else first
    path = first.save(str(tmp_path / target))
    assert type(first).open(path) == first
    assert type(first).open(str(path)) == first


def test_checkpoints_are_equal_by_their_tensors(tied_model, untied_model, tmp_path):
    first = Checkpoint.open(str(tied_model))
    copied = Checkpoint.open(shutil.copytree(tied_model, tmp_path / "copy"), "another name")
    assert first == Checkpoint.open(tied_model) == copied
    assert hash(first) == hash(copied)
    assert first != Checkpoint.open(untied_model)
    assert len({first, copied, Checkpoint.open(untied_model)}) == 2
    file = tmp_path / "copy" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    changed = Checkpoint.open(tmp_path / "copy")
    assert changed != first
    assert hash(changed) == hash(first)


def lines(make_scan, tied_model):
    corpus = Corpus(tuple(Pair(f"sentence {i}", "frase") for i in range(20_000)), "en", "ca", "pairs.tsv")
    stage = Stage(name="scan", title="scan", make=lambda tick: None, inputs=("tune",))
    result = ks_test(np.zeros((500, 8)), np.ones((500, 8)))
    wide = make_scan(np.arange(30_000) % 30, 32)
    return [
        *(build(make_scan) for build, _ in NOUNS.values()), corpus, Checkpoint.open(tied_model), stage, result, wide,
        Recipe(stages=(stage,), inputs={"tune": "x"}), ks_test(np.zeros(8), np.ones(8)),
    ]  # fmt: skip


def test_every_noun_prints_itself_in_one_short_line(make_scan, tied_model):
    for noun in lines(make_scan, tied_model):
        text = repr(noun)
        assert text.startswith(f"{type(noun).__name__}(")
        assert "\n" not in text
        assert len(text) < 250, text
    assert repr(patch()) == "RowPatch(ids=int64[3], values=float32[3, 4], input side of base)"
    assert repr(make_scan([0, 5], 32)) == "Scan(embed_tokens.weight, counts=int64[2], 1 units moved)"
    assert repr(ks_test(np.zeros((2, 8)), np.ones((2, 8)))) == (
        "KSResult(count=int64[2], statistic=float64[2], pvalue=float64[2])"
    )


def test_every_noun_shows_itself_in_a_notebook(make_scan, tied_model):
    for noun in lines(make_scan, tied_model):
        if hasattr(noun, "_repr_html_"):
            html = noun._repr_html_()
            assert "<div>" in html
            assert len(html.encode()) < 100_000
            assert "<script" not in html
    assert "sentence 0" in lines(make_scan, tied_model)[len(NOUNS)]._repr_html_()


def test_frames_have_the_columns_of_the_noun(make_scan):
    scan = make_scan([0, 5, 20], 32)
    frame = scan.to_pandas(["'a'", "'b'", "'c'"])
    assert frame["count"].tolist() == [0, 5, 20]
    assert frame["statistic"].tolist() == scan.statistics.tolist()
    assert frame["token"].tolist() == ["'a'", "'b'", "'c'"]
    assert frame["tensor"].unique().tolist() == ["embed_tokens.weight"]
    tickets = NOUNS["tickets"][0](make_scan)
    assert tickets.to_pandas({3: "'x'"}).to_dict("list") == {
        "row": [3, 8, 21], "token": ["'x'", "''", "''"], "count": [3, 2, 1],
    }  # fmt: skip
    frame = predictions().to_pandas()
    assert frame["correct"].mean() == predictions().accuracy
    certified = certificate(make_scan)
    assert certified.to_pandas()["certified_accuracy"].tolist() == certified.lines()["certified_accuracy"]
    assert len(certified.to_pandas(positions=True)) == 2 * len(predictions())


def test_a_scan_has_the_same_columns_in_its_file_and_its_frame(make_scan, tmp_path):
    import pandas as pd

    scan = make_scan([0, 5, 20], 32)
    saved = pd.read_parquet(scan.save(tmp_path / "scan.parquet"))
    pd.testing.assert_frame_equal(saved, scan.to_pandas())


def test_without_pandas_one_sentence_says_what_to_install(monkeypatch):
    import sys

    from ks_lottery import UserError

    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match="to_pandas needs pandas, which is not installed: pip install pandas"):
        predictions().to_pandas()
