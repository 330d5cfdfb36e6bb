"""Adapters merged block by block against PEFT's own merge, and every other kind of file against plain tensors."""

from __future__ import annotations

import json
import shutil
import warnings

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, TrainableTokensConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from ks_lottery import UserError, scan
from ks_lottery.checkpoint.adapter import AdaptedCheckpoint
from ks_lottery.models.quiet import quiet
from ks_lottery.models.sources import open_source


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    """Tied, with matrices stored the other way round, and the file names that the hub's GPT-2 has."""
    folder = tmp_path_factory.mktemp("gpt2")
    torch.manual_seed(0)
    with quiet():
        GPT2LMHeadModel(
            GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=50, n_positions=32, bos_token_id=1, eos_token_id=2)
        ).save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    plain = {name.removeprefix("transformer."): t for name, t in tensors.items()}
    save_file(plain, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


LORA = {"r": 3, "lora_alpha": 7, "task_type": "CAUSAL_LM"}
CASES = {
    "linear": ("tied_model", LoraConfig(target_modules=["q_proj", "down_proj"], **LORA)),
    "embedding": ("untied_model", LoraConfig(target_modules=["embed_tokens", "v_proj"], **LORA)),
    "head": ("untied_model", LoraConfig(target_modules=["lm_head"], **LORA)),
    "stabilised": ("tied_model", LoraConfig(target_modules=["o_proj"], use_rslora=True, **LORA)),
    "patterns": (
        "tied_model",
        LoraConfig(
            target_modules=["q_proj", "k_proj"], rank_pattern={"layers.1.self_attn.q_proj": 2},
            alpha_pattern={"k_proj": 11}, **LORA,
        ),
    ),
    "whole modules": ("untied_model", LoraConfig(target_modules=["q_proj"], modules_to_save=["up_proj"], **LORA)),
    "tokens": ("untied_model", TrainableTokensConfig(token_indices=[3, 9, 200], task_type="CAUSAL_LM")),
    "tokens beside": ("untied_model", LoraConfig(target_modules=["q_proj"], trainable_token_indices=[5, 300], **LORA)),
    "biases of the adapted": ("gpt2", LoraConfig(target_modules=["c_fc"], fan_in_fan_out=True, bias="lora_only", **LORA)),
    "biases of B": ("gpt2", LoraConfig(target_modules=["c_attn", "c_fc"], lora_bias=True, use_rslora=True, **LORA)),
    "biases of B and of the base": ("gpt2", LoraConfig(target_modules=["c_attn"], lora_bias=True, bias="all", **LORA)),
    "conv1d": ("gpt2", LoraConfig(target_modules=["c_attn", "c_proj"], fan_in_fan_out=True, bias="all", **LORA)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_every_block_is_what_peft_merges(case, request, tmp_path):
    fixture, config = CASES[case]
    folder = request.getfixturevalue(fixture)
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), config)
        generator = torch.Generator().manual_seed(1)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
        model.save_pretrained(tmp_path / "adapter")
        again = PeftModel.from_pretrained(
            AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), tmp_path / "adapter"
        )
        merged = again.merge_and_unload().state_dict()
    base = open_source(folder)
    adapted = open_source(tmp_path / "adapter", base)
    assert isinstance(adapted, AdaptedCheckpoint)
    differing = set()
    for name, unit in adapted.units.items():
        wanted = merged[name] if name in merged else merged[f"transformer.{name}"]
        wanted = (wanted.T if unit.transposed else wanted).reshape(unit.count, unit.width)
        whole = adapted.block(name, 0, unit.count)
        assert torch.allclose(whole, wanted, atol=1e-6), name
        middle = unit.count // 2
        assert torch.equal(adapted.block(name, middle, unit.count), whole[middle:])
        changed = adapted.changed(name)
        still = np.setdiff1d(np.arange(unit.count), changed)
        before = base.block(name, 0, unit.count)
        assert torch.equal(whole[torch.from_numpy(still)], before[torch.from_numpy(still)].float())
        if not torch.equal(whole, before.float()):
            differing.add(name)
    assert differing
    found = scan(folder, tmp_path / "adapter", units="all")
    assert {part.tensor for part in found.parts if found.only(part.tensor).moved.any()} == differing


def test_our_own_adapter_leaves_the_tied_head_alone(tied_model, tmp_path):
    from ks_lottery import RowPatch, open_checkpoint, to_peft

    checkpoint = open_checkpoint(str(tied_model))
    ids = np.array([4, 30, 31])
    patch = RowPatch(ids, checkpoint.rows(ids) + 1, checkpoint.describe())
    to_peft(checkpoint, patch, tmp_path / "adapter")
    patch.save(tmp_path / "patch")
    one = scan(tied_model, tmp_path / "adapter")
    assert np.flatnonzero(one.moved).tolist() == ids.tolist()
    np.testing.assert_array_equal(one.counts, scan(tied_model, tmp_path / "patch").counts)
    for tuned in ("adapter", "patch"):
        assert not scan(tied_model, tmp_path / tuned, units="output").moved.any()


@pytest.mark.parametrize("fixture", ["tied_model", "untied_model"])
def test_a_scan_of_a_patch_compares_its_side(fixture, request, tmp_path):
    from dataclasses import replace

    from ks_lottery import RowPatch, UserError, open_checkpoint

    checkpoint = open_checkpoint(str(request.getfixturevalue(fixture)))
    ids = np.array([4, 30, 31])
    patch = RowPatch(ids, checkpoint.rows(ids, side="output") + 1, checkpoint.describe(), side="output")
    patch.save(tmp_path)
    found = scan(checkpoint.folder, tmp_path, units="output")
    assert np.flatnonzero(found.moved).tolist() == ids.tolist()
    np.testing.assert_allclose(found.absolute[ids], 1.0, rtol=1e-5)  # against the head, and not against the input side
    with pytest.raises(UserError, match="scan it with units output"):
        scan(checkpoint.folder, tmp_path)
    own = None if fixture == "tied_model" else checkpoint.rows(ids, side="output") + 3
    replace(patch, side="both", values=checkpoint.rows(ids) + 1, output_values=own).save(tmp_path)
    for units, move in (("embedding", 1.0), ("output", 1.0 if own is None else 3.0)):
        found = scan(checkpoint.folder, tmp_path, units=units)
        assert np.flatnonzero(found.moved).tolist() == ids.tolist()
        np.testing.assert_allclose(found.absolute[ids], move, rtol=1e-5)


def test_units_of_conv1d_are_outputs(gpt2, tmp_path):
    tuned = tmp_path / "tuned"
    shutil.copytree(gpt2, tuned)
    tensors = load_file(gpt2 / "model.safetensors")
    tensors["h.0.attn.c_attn.weight"][:, 7] += 1.0  # one output unit
    save_file(tensors, tuned / "model.safetensors", metadata={"format": "pt"})
    found = scan(gpt2, tuned, units="matrix-rows")
    assert [(row["tensor"], row["row"], row["width"]) for row in found.top(9)] == [("h.0.attn.c_attn.weight", 7, 16)]


@pytest.mark.parametrize("change", ["kind", "dora", "name", "rows", "shape", "missing", "damaged"])
def test_adapters_that_cannot_be_merged(change, tied_model, untied_model, tmp_path):
    config = LoraConfig(target_modules=["q_proj"], use_dora=change == "dora", **LORA)
    if change == "rows":
        config = TrainableTokensConfig(token_indices=[3], task_type="CAUSAL_LM")
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        get_peft_model(AutoModelForCausalLM.from_pretrained(untied_model), config).save_pretrained(tmp_path)
    about = json.loads((tmp_path / "adapter_config.json").read_text())
    weights = tmp_path / "adapter_model.safetensors"
    tensors = load_file(weights)
    match change:
        case "kind":
            about["peft_type"] = "IA3"
        case "name":
            tensors["base_model.model.lm_head.mystery"] = torch.zeros(2)
        case "rows":
            about["token_indices"] = [5000]
        case "shape":
            tensors = {name: tensor[..., :-1].contiguous() for name, tensor in tensors.items()}
        case "missing":
            tensors = {name.replace("q_proj", "z_proj"): tensor for name, tensor in tensors.items()}
    save_file(tensors, weights)
    (tmp_path / "adapter_config.json").write_text(json.dumps(about))
    if change == "damaged":
        weights.write_bytes(weights.read_bytes()[:-7])
    message = {
        "kind": "of kind IA3", "dora": "sets use_dora to True", "name": "lm_head.mystery, which is not understood",
        "rows": "changes row 5000", "shape": "give the base that the adapter belongs to",
        "missing": "z_proj, which .* does not have", "damaged": "truncated",
    }[change]  # fmt: skip
    with pytest.raises(UserError, match=message):
        scan(untied_model, tmp_path)


def test_an_adapter_needs_its_base(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match="give its base first"):
        open_source(tmp_path)


class Evil:
    def __reduce__(self):
        return (print, ("this must not run",))


def test_pickled_tensors_and_nothing_else(untied_model, tmp_path, capfd):
    tensors = load_file(untied_model / "model.safetensors")
    shutil.copyfile(untied_model / "config.json", tmp_path / "config.json")
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    found = scan(untied_model, tmp_path, units="all")
    assert len(found) > 384
    assert not found.moved.any()
    torch.save(tensors, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert not scan(untied_model, tmp_path / "old.pt").moved.any()
    torch.save({**tensors, "evil": Evil()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match="more than tensors"):
        scan(untied_model, tmp_path / "pytorch_model.bin")
    (tmp_path / "pytorch_model.bin").write_bytes(b"garbage")
    with pytest.raises(UserError, match=r"pytorch_model\.bin"):
        scan(untied_model, tmp_path / "pytorch_model.bin")
    assert "must not run" not in capfd.readouterr().out
