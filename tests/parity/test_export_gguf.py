"""GGUF exports: every byte but the changed rows is the base's, read by the gguf package; llama.cpp runs them."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace

import gguf
import numpy as np
import pytest
import torch
from gguf_models import E, V, write

from ks_lottery import RowPatch, UserError, export, open_checkpoint, to_gguf, to_gguf_lora
from ks_lottery.cli.main import main
from ks_lottery.models import llama_process
from ks_lottery.models.export_check import compared
from ks_lottery.models.llama_process import ask_llama
from ks_lottery.models.load import load_model
from ks_lottery.models.sides import installed_patch

IDS = np.array([5, 77, 280, 299])

MATRICES = {"input": {"token_embd.weight"}, "output": {"output.weight"}, "both": {"token_embd.weight", "output.weight"}}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KS_LOTTERY_CACHE", str(tmp_path / "cache"))


def patch_for(checkpoint, side="input", *, tied=True):
    random = torch.Generator().manual_seed(1)
    values, second = torch.randn(len(IDS), E, generator=random), torch.randn(len(IDS), E, generator=random)
    return RowPatch(IDS, values, checkpoint.describe(), {}, side, second if side == "both" and not tied else None)


def tensors_of(file):
    return {tensor.name: tensor for tensor in gguf.GGUFReader(file).tensors}


def digests(file, without=()):
    """Digest of every tensor and of every value of the header, as gguf reads them."""
    reader = gguf.GGUFReader(file)
    parts = {t.name: (t.tensor_type, hashlib.sha256(t.data.tobytes()).hexdigest()) for t in reader.tensors}
    keys = {
        name: hashlib.sha256(b"".join(part.tobytes() for part in field.parts)).hexdigest()
        for name, field in reader.fields.items()
        if name != "GGUF.tensor_count"
    }
    return {name: value for name, value in {**parts, **keys}.items() if name not in without}


@pytest.mark.parametrize("side", ["input", "output", "both"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_only_the_changed_rows_differ_in_the_types_that_gguf_writes(tmp_path, kind, tied, side):
    file = write(tmp_path / "base.gguf", kind=kind, tied=tied)
    checkpoint = open_checkpoint(file)
    patch = patch_for(checkpoint, side, tied=tied)
    new = to_gguf(checkpoint, patch, tmp_path / "out") / "model.gguf"
    changed = MATRICES[side] - ({"output.weight"} if tied and side == "both" else set())
    both = {"token_embd.weight", "output.weight"}
    assert digests(new, both) == digests(file, both)
    before, after = tensors_of(file), tensors_of(new)
    assert set(after) == (set(before) if side == "both" else set(before) | {"output.weight"})
    for name in both & set(after):
        old = before.get(name, before["token_embd.weight"])
        assert after[name].tensor_type == old.tensor_type
        wanted = np.array(old.data)
        if name in changed:
            values = patch.values_of("input" if name.startswith("token") else "output").numpy()
            wanted[IDS] = gguf.quants.quantize(values, old.tensor_type)
        np.testing.assert_array_equal(np.array(after[name].data), wanted)


@pytest.mark.parametrize("kind", ["Q6_K", "Q4_K"])
def test_a_type_that_gguf_cannot_write_becomes_f16_and_is_said(tmp_path, kind):
    file = write(tmp_path / "base.gguf", kind=kind)
    checkpoint = open_checkpoint(file)
    patch = patch_for(checkpoint)
    with pytest.raises(NotImplementedError):
        gguf.quants.quantize(patch.values.numpy(), gguf.GGMLQuantizationType[kind])
    made = export(checkpoint, patch, tmp_path / "out", to="gguf")
    assert any(f"token_embd.weight is F16 now: gguf has no quantiser for {kind}" in note for note in made.notes)
    assert f"no quantiser for {kind}" in (tmp_path / "out" / "README.md").read_text().replace("\\_", "_")
    before, after = tensors_of(file), tensors_of(tmp_path / "out" / "model.gguf")
    assert after["token_embd.weight"].tensor_type == gguf.GGMLQuantizationType.F16
    old = before["token_embd.weight"]
    wanted = gguf.quants.dequantize(old.data, old.tensor_type).astype(np.float16)
    wanted[IDS] = patch.values.numpy().astype(np.float16)
    np.testing.assert_array_equal(after["token_embd.weight"].data, wanted)
    np.testing.assert_array_equal(after["output.weight"].data, old.data)  # the head keeps its bytes


@pytest.mark.parametrize(
    ("tied", "side"), [(True, "input"), (True, "both"), (False, "input"), (False, "output"), (True, "output")]
)
@pytest.mark.parametrize("to", ["gguf", "gguf-lora"])
def test_llama_cpp_gives_the_tokens_of_transformers(tmp_path, to, tied, side):
    checkpoint = open_checkpoint(write(tmp_path / "base.gguf", tied=tied))
    made = export(checkpoint, patch_for(checkpoint, side, tied=tied), tmp_path / "out", to=to, check=True)
    assert made.check.passed
    assert made.check.told >= 3  # rows that are missing would be noticed
    assert (tmp_path / "out" / "base-untied.gguf").is_file() == (tied and to == "gguf-lora")


def test_the_untied_base_is_the_base_with_its_matrix_a_second_time(tmp_path):
    file = write(tmp_path / "base.gguf", kind="Q8_0")
    checkpoint = open_checkpoint(file)
    untied = to_gguf_lora(checkpoint, patch_for(checkpoint), tmp_path / "out") / "base-untied.gguf"
    assert digests(untied, {"output.weight"}) == digests(file)
    after = tensors_of(untied)
    np.testing.assert_array_equal(after["output.weight"].data, after["token_embd.weight"].data)


def test_llama_cpp_stops_with_a_lora_on_a_tied_base_and_this_process_does_not(tmp_path):
    """Why the folder has an untied base."""
    file = write(tmp_path / "base.gguf")
    checkpoint = open_checkpoint(file)
    folder = to_gguf_lora(checkpoint, patch_for(checkpoint), tmp_path / "out")
    with pytest.raises(UserError, match=r"llama\.cpp cannot load .*adapter\.gguf \(exit code -?[0-9]+\)"):
        ask_llama(file, [[1, 5, 77]], 4, folder / "adapter.gguf")
    assert ask_llama(folder / "base-untied.gguf", [[1, 5, 77]], 4, folder / "adapter.gguf")


def test_an_export_without_its_rows_does_not_pass(tmp_path, capfd):
    file = write(tmp_path / "base.gguf")
    checkpoint = open_checkpoint(str(file))
    patch_for(checkpoint).save(tmp_path / "patch")
    words = ["export", str(tmp_path / "patch"), "--to", "gguf-lora", "--out", str(tmp_path / "out"), "--check"]
    assert main(words) == 0
    assert "passed: llama.cpp gives the tokens" in capfd.readouterr().out
    other = replace(patch_for(checkpoint), values=torch.zeros(len(IDS), E))
    to_gguf_lora(checkpoint, other, tmp_path / "other")
    shutil.copyfile(tmp_path / "other" / "adapter.gguf", tmp_path / "out" / "adapter.gguf")
    assert main(words) == 1
    assert "FAILED: llama.cpp gives the tokens" in capfd.readouterr().out


def test_answers_may_part_only_where_the_two_best_tokens_are_close():
    wanted = [[(7, 1.0), (8, 0.01), (9, 1.0)]]
    assert compared("x", wanted, [[7, 8, 9]], 0.05).gaps == (None,)
    assert compared("x", wanted, [[7, 5, 1]], 0.05).passed
    assert not compared("x", wanted, [[7, 8, 1]], 0.05).passed
    assert not compared("x", wanted, [[7, 8]], 0.05).passed
    assert not compared("x", wanted, [[7, 8, 9, 1]], 0.05).passed


def test_a_lower_rank_is_what_llama_cpp_computes(tmp_path):
    checkpoint = open_checkpoint(write(tmp_path / "base.gguf", tied=False))
    patch = patch_for(checkpoint)
    made = export(checkpoint, patch, tmp_path / "out", to="gguf-lora", rank=2, check=True)
    values = np.linalg.svd((patch.values - checkpoint.rows(IDS)).double().numpy(), compute_uv=False)
    lost = np.sqrt((values[2:] ** 2).sum() / (values**2).sum())
    assert f"it loses {lost:.2%} of their change" in " ".join(made.notes)
    assert made.check.passed


def test_what_llama_cpp_cannot_have_is_refused(tmp_path, monkeypatch):
    file = write(tmp_path / "base.gguf")
    checkpoint = open_checkpoint(file)
    patch = patch_for(checkpoint)
    wide = RowPatch(np.arange(V), torch.zeros(V, E), checkpoint.describe())
    monkeypatch.setattr("ks_lottery.models.low_rank.MOST_RANK", 200)
    with pytest.raises(
        UserError, match="changes 300 rows, so that its LoRA is of rank 300, and vLLM loads at most 200"
    ):
        to_gguf_lora(checkpoint, wide, tmp_path / "out")
    with pytest.raises(UserError, match="the patch changes no row"):
        to_gguf_lora(checkpoint, patch.restrict(np.array([], dtype=np.int64)), tmp_path / "out")
    with pytest.raises(UserError, match="`rank` is for lora and gguf-lora, and gguf has none"):
        export(checkpoint, patch, tmp_path / "out", to="gguf", rank=3)
    with pytest.raises(UserError, match="`to` is 'onnx', but must be one of peft, lora, merged, gguf, gguf-lora"):
        export(checkpoint, patch, tmp_path / "out", to="onnx")
    monkeypatch.setattr("ks_lottery.models.export_gguf.ONE_MATRIX", {"llama"})
    for write_it in (to_gguf, to_gguf_lora):
        with pytest.raises(UserError, match=r"llama\.cpp reads one matrix for embedding and head of a llama model"):
            write_it(checkpoint, patch, tmp_path / "out")
    to_gguf(checkpoint, patch_for(checkpoint, "both"), tmp_path / "tied")  # one matrix is all that this patch needs
    monkeypatch.setattr(llama_process, "PACKAGE", "no_such_package")
    with pytest.raises(UserError, match=r"llama\.cpp is not installed, which the check needs: pip install"):
        export(checkpoint, patch_for(checkpoint, "both"), tmp_path / "tied", to="gguf", check=True)
    write(file, seed=3)
    with pytest.raises(UserError, match=r"base\.gguf is not there any more, or was changed"):
        to_gguf(checkpoint, patch, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_export_is_the_same_bytes_each_time_and_left_as_it_is(tmp_path):
    checkpoint = open_checkpoint(write(tmp_path / "base.gguf", kind="Q4_0"))
    patch = patch_for(checkpoint)
    for to, name in (("gguf", "model.gguf"), ("gguf-lora", "adapter.gguf")):
        one, two = (export(checkpoint, patch, tmp_path / f"{to}{i}", to=to) for i in range(2))
        file = one.folder / name
        assert file.read_bytes() == (two.folder / name).read_bytes()
        before = file.stat().st_mtime_ns
        export(checkpoint, patch, one.folder, to=to)
        assert file.stat().st_mtime_ns == before


def test_transformers_reads_the_new_file_as_the_patch_says(tmp_path):
    """An independent reader: the converted file, loaded, gives the logits of the base with the patch."""
    checkpoint = open_checkpoint(write(tmp_path / "base.gguf"))
    patch = patch_for(checkpoint)
    to_gguf(checkpoint, patch, tmp_path / "out")
    lm = load_model(checkpoint, dtype="float32", device="cpu").lm
    tokens = torch.tensor([[1, 5, 77, 280, 299, 3]])
    with torch.inference_mode():
        with installed_patch(lm, patch):
            wanted = lm(tokens).logits
        again = load_model(tmp_path / "out" / "model.gguf", dtype="float32", device="cpu").lm(tokens).logits
    torch.testing.assert_close(again, wanted)
