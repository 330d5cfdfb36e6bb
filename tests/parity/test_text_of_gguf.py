"""What a text needs of a GGUF file is read from its header: the same as from the file converted, without the conversion."""

from __future__ import annotations

import pytest
from gguf_models import write
from tokenizers import pre_tokenizers

from ks_lottery import open_checkpoint
from ks_lottery.checkpoint.gguf_rows import GgufRows
from ks_lottery.cli.main import main
from ks_lottery.evaluation.inspect import inspect
from ks_lottery.models.load import load_tokenizer
from ks_lottery.models.row_scale import rate_sentence
from ks_lottery.models.sources import open_unconverted

PADDING = sorted(pre_tokenizers.ByteLevel.alphabet()).index("c")
"""Id of a token that the text has, so that the reachable rows depend on it."""


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.setenv("KS_LOTTERY_CACHE", str(tmp_path / "cache"))
    return write(tmp_path / "model.gguf", kind="Q8_0", padding=PADDING)


@pytest.mark.filterwarnings("ignore::ks_lottery.errors.AssetNotice")
def test_an_inspection_is_that_of_the_converted_file(model, text_file, tmp_path, monkeypatch):
    found = inspect(text_file, model).as_dict()
    assert not (tmp_path / "cache" / "models").exists()
    converted = open_checkpoint(model)
    assert (tmp_path / "cache" / "models").is_dir()
    assert found == inspect(text_file, converted).as_dict()
    assert converted.padding == PADDING
    monkeypatch.setattr("ks_lottery.models.sources.converted_before", lambda _: None)
    opened = open_unconverted(model)
    assert isinstance(opened, GgufRows)
    assert (opened.vocabulary, opened.context, opened.padding) == (300, 512, PADDING)
    assert rate_sentence(opened).partition("needs")[2] == rate_sentence(converted).partition("needs")[2]
    assert load_tokenizer(opened).get_vocab() == load_tokenizer(converted).get_vocab()


def test_rows_are_selected_by_a_text_without_a_conversion(model, text_file, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "other.gguf", kind="Q8_0", seed=1)
    monkeypatch.setattr("ks_lottery.models.gguf._convert", None)
    corpus = ["--corpus", str(text_file)]
    assert main(["scan", "model.gguf", "other.gguf", "--quiet", "--out", "scan.parquet"]) == 0
    assert main(["select", "scan.parquet", "--top-k", "5", "--by", "occurrence", *corpus, "--out", "often.json"]) == 0
    assert main(["explain", "often.json", "--scan", "scan.parquet", *corpus]) == 0
    assert main(["scan", "model.gguf", "model.gguf", "--quiet", "--out", "same.parquet"]) == 0
    assert main(["select", "same.parquet", "--out", "none.json"]) == 2
    assert "converted" not in capfd.readouterr().err
    assert not (tmp_path / "cache" / "models").exists()
