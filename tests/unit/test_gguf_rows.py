"""Embeddings of GGUF files: the rows of the gguf package, without a conversion, and sizes compared before anything is read."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import dequantize, quantize
from test_gguf_header import E, V, write

from ks_lottery import UserError, open_checkpoint, scan
from ks_lottery.checkpoint.gguf_rows import GgufRows
from ks_lottery.errors import AssetNotice
from ks_lottery.models import gguf as conversion


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KS_LOTTERY_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q5_1"])
def test_rows_are_those_of_the_gguf_package(tmp_path, kind):
    number = gguf.GGMLQuantizationType[kind]
    values = np.random.default_rng(1).standard_normal((40, 64), dtype=np.float32)
    stored = quantize(values, number)
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "llama")
    writer.add_tensor("blk.0.weight", values)
    writer.add_tensor("token_embd.weight", stored, raw_dtype=number)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    rows = GgufRows.open(tmp_path / "a.gguf")
    assert (rows.vocabulary, rows.head) == (40, rows.embedding)
    for start, stop in ((0, 40), (7, 8), (33, 40)):
        wanted = torch.from_numpy(dequantize(stored, number)[start:stop].copy())
        assert torch.equal(rows.block(rows.embedding, start, stop), wanted)


def test_a_scan_of_embeddings_converts_nothing_and_finds_what_the_converted_models_have(tmp_path, monkeypatch):
    for name in ("a", "b"):
        write(tmp_path / f"{name}.gguf")
    content = bytearray((tmp_path / "b.gguf").read_bytes())
    start = GgufRows.open(tmp_path / "b.gguf").header.tensors["token_embd.weight"].start
    content[start + 5 * 4 * E : start + 6 * 4 * E] = np.full(E, 9, np.float32).tobytes()
    (tmp_path / "b.gguf").write_bytes(content)
    sides = tmp_path / "a.gguf", tmp_path / "b.gguf"
    plain = scan(*map(open_checkpoint, sides))
    with monkeypatch.context() as patching:
        patching.setattr(conversion, "_convert", None)
        patching.setenv("KS_LOTTERY_CACHE", str(tmp_path / "another"))
        found = scan(*sides)
        assert not (tmp_path / "another").exists()
    assert found.counts.tolist() == plain.counts.tolist()
    assert np.flatnonzero(found.moved).tolist() == [5]


@pytest.mark.parametrize("units", ["embedding", "output", "matrix-rows", "all"])
def test_files_of_another_size_are_refused_by_their_headers(tmp_path, monkeypatch, tied_model, units):
    monkeypatch.setattr(conversion, "_convert", None)
    monkeypatch.setattr(GgufRows, "block", None)
    write(tmp_path / "a.gguf")
    writer = gguf.GGUFWriter(tmp_path / "b.gguf", "llama")
    writer.add_tensor("token_embd.weight", np.zeros((V, 2 * E), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    for other in (tmp_path / "a.gguf", tied_model):
        with pytest.raises(UserError, match=f"300 x {2 * E} in .*b.gguf: they cannot be compared"):
            scan(other, tmp_path / "b.gguf", units=units)
    assert not (tmp_path / "cache").exists()


def test_a_conversion_is_announced_once_with_its_sizes(tmp_path):
    tensors = write(tmp_path / "a.gguf")
    floats = 4 * sum(tensor.size for tensor in tensors.values())
    with pytest.warns(
        AssetNotice, match=rf"a\.gguf \(.* kB\) is converted once, into {floats / 1000:.0f} kB of float32"
    ):
        open_checkpoint(tmp_path / "a.gguf")
    assert not [entry for entry in open_checkpoint(tmp_path / "a.gguf").notes if "converted" in entry]


def test_a_file_of_another_kind_is_one_sentence(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "clip")
    writer.add_tensor("v.patch_embd.weight", np.zeros((4, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(UserError, match=r"a\.gguf has no input embedding: give a causal language model's file"):
        scan(tmp_path / "a.gguf", tmp_path / "a.gguf")
