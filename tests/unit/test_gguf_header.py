"""GGUF files: converted ones have the tensors that were written; damaged ones are one sentence, and allocate nothing."""

from __future__ import annotations

import struct

import gguf
import numpy as np
import pytest
import torch
from tokenizers import pre_tokenizers

from ks_lottery import UserError, open_checkpoint
from ks_lottery.checkpoint.added_tokens import AddedTokens
from ks_lottery.checkpoint.gguf_header import read_gguf
from ks_lottery.checkpoint.gguf_tokens import longer_vocabulary

V, E, F = 300, 32, 48


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KS_LOTTERY_CACHE", str(tmp_path / "cache"))


def write(file, *, without=(), more=None, end=V - 1, types=V):
    """Write a llama of one layer, and return its tensors."""
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(E)
    writer.add_block_count(1)
    writer.add_feed_forward_length(F)
    writer.add_head_count(4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(V)
    for key, value in (more or {}).items():
        writer.add_uint32(key, value)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([*alphabet, "ab", *(f"<t{i}>" for i in range(V - len(alphabet) - 1))])
    writer.add_token_types([1] * types)
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(end)
    random = np.random.default_rng(0)
    shapes = {"token_embd": (V, E), "output_norm": (E,), "blk.0.attn_norm": (E,), "blk.0.ffn_norm": (E,)}
    shapes |= {f"blk.0.attn_{n}": (E, E) for n in ("q", "k", "v", "output")}
    shapes |= {"blk.0.ffn_gate": (F, E), "blk.0.ffn_up": (F, E), "blk.0.ffn_down": (E, F)}
    tensors = {f"{name}.weight": random.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}
    for name, tensor in tensors.items():
        if name not in without:
            writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors


def test_a_converted_file_has_the_tensors_that_were_written(tmp_path):
    tensors = write(tmp_path / "a.gguf")
    checkpoint = open_checkpoint(tmp_path / "a.gguf")
    assert torch.equal(checkpoint.rows(np.arange(V)), torch.from_numpy(tensors["token_embd.weight"]))
    name = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(checkpoint.block(name, 0, F), torch.from_numpy(tensors["blk.0.ffn_up.weight"]))


def test_a_tensor_that_is_missing_is_not_made_up(tmp_path):
    write(tmp_path / "a.gguf", without=("blk.0.ffn_up.weight",))
    with pytest.raises(UserError, match=r"lacks the tensor model\.layers\.0\.mlp\.up_proj\.weight"):
        open_checkpoint(tmp_path / "a.gguf")
    assert list((tmp_path / "cache" / "models").iterdir()) == []


def test_a_file_cut_off_at_any_byte_is_one_sentence(tmp_path):
    write(tmp_path / "a.gguf")
    read_gguf(tmp_path / "a.gguf")
    content = (tmp_path / "a.gguf").read_bytes()
    cut = tmp_path / "cut.gguf"
    for size in [*range(600), *range(600, len(content), 499), len(content) - 1]:
        cut.write_bytes(content[:size])
        with pytest.raises(UserError, match="cut.gguf") as refused:
            open_checkpoint(cut)
        assert "\n" not in str(refused.value)
    assert not (tmp_path / "cache" / "models").exists()


def header(*, version=3, tensors=0, values=0, rest=b""):
    return b"GGUF" + struct.pack("<IQQ", version, tensors, values) + rest


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


ARCHITECTURE = text("general.architecture") + struct.pack("<I", 8) + text("llama")

HOSTILE = {
    "version": header(version=1),
    "big-endian": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
    "tensors": header(tensors=2**63),
    "values": header(values=2**63),
    "name": header(values=1, rest=struct.pack("<Q", 2**62)),
    "name of no text": header(values=1, rest=struct.pack("<Q", 1) + b"\xff" + struct.pack("<IB", 0, 0)),
    "value": header(values=1, rest=text("a") + struct.pack("<I", 99)),
    "array": header(values=1, rest=text("a") + struct.pack("<IIQ", 9, 4, 2**61)),
    "array of texts": header(values=1, rest=text("a") + struct.pack("<IIQ", 9, 8, 2**61)),
    "array of arrays": header(values=1, rest=text("a") + struct.pack("<IIQ", 9, 9, 2)),
    "axes": header(tensors=1, rest=text("a") + struct.pack("<I", 2**31)),
    "shape": header(tensors=1, values=1, rest=ARCHITECTURE + text("a") + struct.pack("<IQQIQ", 2, 2**32, 2**32, 0, 0)),
    "offset": header(
        tensors=1, values=1, rest=ARCHITECTURE + text("a") + struct.pack("<IQIQ", 1, 1, 0, 2**63) + bytes(64)
    ),
    "type": header(tensors=1, values=1, rest=ARCHITECTURE + text("a") + struct.pack("<IQIQ", 1, 1, 77, 0) + bytes(64)),
    "alignment": header(values=1, rest=text("general.alignment") + struct.pack("<II", 4, 0)),
    "architecture": header(),
    "architecture of no text": header(values=1, rest=text("general.architecture") + struct.pack("<II", 4, 0)),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_numbers_beyond_the_file_are_one_sentence(tmp_path, case):
    (tmp_path / "a.gguf").write_bytes(HOSTILE[case])
    with pytest.raises(UserError, match="a.gguf") as refused:
        open_checkpoint(tmp_path / "a.gguf")
    assert "cache" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("key", ["block_count", "embedding_length", "feed_forward_length", "vocab_size"])
def test_settings_larger_than_the_tensors_allocate_nothing(tmp_path, key):
    write(tmp_path / "a.gguf")
    content = (tmp_path / "a.gguf").read_bytes()
    at = content.index(text(f"llama.{key}")) + len(text(f"llama.{key}")) + 4
    (tmp_path / "a.gguf").write_bytes(content[:at] + struct.pack("<I", 2**31 - 1) + content[at + 4 :])
    with pytest.raises(UserError, match="settings .* are larger than its 11 tensors"):
        open_checkpoint(tmp_path / "a.gguf")


def test_what_transformers_says_is_one_sentence(tmp_path):
    write(tmp_path / "a.gguf")
    content = (tmp_path / "a.gguf").read_bytes()
    (tmp_path / "a.gguf").write_bytes(content.replace(b"a b", b"q\xc4\x80"))
    with pytest.raises(UserError, match="that transformers cannot read") as refused:
        open_checkpoint(tmp_path / "a.gguf")
    assert len(str(refused.value)) < 600


@pytest.mark.parametrize("types", [V - 1, V + 1])
def test_new_tokens_in_a_file_whose_lists_of_tokens_differ_in_length_are_refused(tmp_path, types):
    write(tmp_path / "a.gguf", types=types)
    added = AddedTokens(texts=("<new>",), ids=(V,), base_rows=V)
    with pytest.raises(UserError, match="is damaged: its lists of tokens have different lengths"):
        longer_vocabulary(read_gguf(tmp_path / "a.gguf"), added)
