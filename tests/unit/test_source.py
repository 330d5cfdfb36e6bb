"""From text settings to a corpus: every setting reaches the reader, and the instruction is put on every pair."""

from __future__ import annotations

import json

import pytest

from ks_lottery import UserError, read_corpus
from ks_lottery.config.settings import TextConfig, TextSource
from ks_lottery.corpus.source import load_text, read_text

ROWS = [("The house is old", "La casa és vella"), ("The dog eats now", "El gos menja ara"), ("Hello", "Hola")]


def pairs(**settings):
    return [(pair.source, pair.target) for pair in read_text(TextSource(**settings))]


def test_files_formats_columns_and_limits(tmp_path):
    """The text has no telling ending, its columns are named, and its languages are those of the settings."""
    file = tmp_path / "pairs.txt"
    file.write_text("id\tgerman\tfrench\n" + "".join(f"{n}\t{s}\t{t}\n" for n, (s, t) in enumerate(ROWS)))
    settings = {"path": str(file), "format": "tsv", "source_column": "french", "target_column": "german"}
    settings |= {"source_language": "fr", "target_language": "de"}
    assert pairs(**settings) == [(t, s) for s, t in ROWS]
    assert pairs(**settings, limit=2) == [(t, s) for s, t in ROWS[:2]]
    corpus = read_text(TextSource(**settings))
    assert (corpus.source_language, corpus.target_language, corpus.origin) == ("fr", "de", str(file))
    assert [pair.instruction for pair in corpus] == ["", "", ""]
    told = read_text(TextSource(**settings, instruction="Do it."))
    assert [pair.instruction for pair in told] == ["Do it."] * 3


def test_two_files(tmp_path):
    for side, name in enumerate(("a.en", "a.ca")):
        (tmp_path / name).write_text("".join(f"{row[side]}\n" for row in ROWS), encoding="utf-8")
    assert pairs(path=str(tmp_path / "a.en"), target=str(tmp_path / "a.ca")) == ROWS


@pytest.mark.parametrize("streaming", [False, True])
def test_splits_of_a_dataset(tmp_path, streaming):
    for name, rows in (("train", ROWS[:1]), ("test", ROWS[1:])):
        lines = [json.dumps({"en": s, "ca": t}) + "\n" for s, t in rows]
        (tmp_path / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    settings = {"path": str(tmp_path), "dataset_streaming": streaming}
    assert pairs(**settings) == ROWS[:1]
    assert pairs(**settings, dataset_split="test") == ROWS[1:]
    with pytest.raises(UserError, match="config nowhere"):
        pairs(**settings, dataset_config="nowhere")


def test_streaming_is_refused_where_there_is_no_dataset(text_file):
    with pytest.raises(UserError, match="streaming is for Hugging Face datasets"):
        pairs(path=str(text_file), dataset_streaming=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": "asset:other"}, "asset:other is not known"),
        ({"path": "asset:catalogs", "source_language": "de"}, "translates from en only"),
    ],
)
def test_embedded_texts_that_are_not_there(settings, message):
    with pytest.raises(UserError, match=message):
        read_text(TextSource(**settings))


def test_a_run_splits_what_the_library_reads(text_file):
    config = TextConfig(train=str(text_file), min_pairs=20, max_train=30, max_test=5)
    parts, report = load_text(config)
    assert parts.uncut is not None
    assert parts.test.pairs == parts.uncut.pairs[:5]
    assert report["held_out"] == {"calibration": len(parts.calibration), "test": len(parts.uncut)}
    corpus = read_corpus(text_file, source_language="en", target_language="ca")
    together = [pair for part in (parts.train, parts.calibration, parts.test) for pair in part]
    assert (len(parts.train), len(parts.test)) == (30, 5)
    assert set(together) <= set(corpus)
    assert len({pair.source for pair in together}) == len(together)
    assert report["origin"] == str(text_file)
    with pytest.raises(UserError, match=r"120 usable pairs and `text\.min_pairs` asks for 121"):
        load_text(TextConfig(train=str(text_file), min_pairs=121))
