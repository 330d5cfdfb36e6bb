"""LoRA exports against PEFT: loaded, merged where the base is untied, and each side alone where it is tied."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from ks_lottery import RowPatch, UserError, export, open_checkpoint, to_lora
from ks_lottery.models.load import load_model
from ks_lottery.models.quiet import quiet
from ks_lottery.models.sides import installed_patch

IDS = np.array([5, 77, 301])
TOKENS = torch.tensor([[1, 5, 77, 300, 9, 301], [5, 5, 6, 0, 301, 2]])


def patch_for(checkpoint, side, *, tied):
    random = torch.Generator().manual_seed(1)
    values, second = torch.randn(3, 32, generator=random), torch.randn(3, 32, generator=random)
    return RowPatch(IDS, values, checkpoint.describe(), {}, side, second if side == "both" and not tied else None)


def logits_of(model):
    with torch.inference_mode():
        return model(input_ids=TOKENS).logits


def adapted(checkpoint, folder):
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT says that merging would change both sides
        base = AutoModelForCausalLM.from_pretrained(checkpoint.folder, dtype=torch.float32)
        return PeftModel.from_pretrained(base, str(folder)).eval()


@pytest.mark.parametrize("side", ["input", "output", "both"])
@pytest.mark.parametrize("tied", [True, False])
def test_peft_loads_the_lora_and_answers_like_the_patch(tied_model, untied_model, tmp_path, tied, side):
    checkpoint = open_checkpoint(str(tied_model if tied else untied_model))
    patch = patch_for(checkpoint, side, tied=tied)
    lm = load_model(checkpoint, dtype="float32", device="cpu").lm
    before = logits_of(lm)
    with installed_patch(lm, patch):
        wanted = logits_of(lm)
    assert not torch.allclose(before, wanted, atol=1e-2)
    to_lora(checkpoint, patch, tmp_path / "lora")
    model = adapted(checkpoint, tmp_path / "lora")
    assert torch.allclose(logits_of(model), wanted, atol=1e-4, rtol=1e-4)
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        merged = logits_of(model.merge_and_unload())
    if tied:  # why the README says not to
        assert not torch.allclose(merged, wanted, atol=1e-2)
    else:
        assert torch.allclose(merged, wanted, atol=1e-4, rtol=1e-4)


def test_the_matrix_that_picks_rows_is_one_hot_and_exact(untied_model, tmp_path):
    checkpoint = open_checkpoint(str(untied_model))
    patch = patch_for(checkpoint, "both", tied=False)
    made = export(checkpoint, patch, tmp_path / "lora", to="lora")
    tensors = load_file(tmp_path / "lora" / "adapter_model.safetensors")
    picks = tensors["base_model.model.model.embed_tokens.lora_embedding_A"]
    moves = tensors["base_model.model.model.embed_tokens.lora_embedding_B"]
    assert (picks.dtype, tuple(picks.shape)) == (torch.bfloat16, (3, checkpoint.vocabulary))
    assert (moves.dtype, tuple(moves.shape)) == (torch.float32, (32, 3))
    assert torch.equal(picks.float().nonzero()[:, 1], torch.from_numpy(IDS))
    assert picks.float().sum() == 3
    assert torch.equal(picks[:, IDS].float().T @ moves.T, patch.values - checkpoint.rows(IDS))
    head = tensors["base_model.model.lm_head.lora_B.weight"].float() @ tensors["base_model.model.lm_head.lora_A.weight"]
    assert torch.equal(head[IDS], patch.output_values - checkpoint.rows(IDS, "output"))
    size = sum(tensor.nbytes for tensor in tensors.values())
    assert f"A LoRA of rank 3: {size:,} bytes" in made.notes[0]
    assert made.files["adapter_model.safetensors"] >= size


def test_a_lower_rank_loses_what_numpy_says_and_is_what_peft_computes(untied_model, tmp_path):
    checkpoint = open_checkpoint(str(untied_model))
    patch = patch_for(checkpoint, "input", tied=False)
    made = export(checkpoint, patch, tmp_path / "lora", to="lora", rank=2, check=True)
    moves = (patch.values - checkpoint.rows(IDS)).double().numpy()
    u, s, v = np.linalg.svd(moves, full_matrices=False)
    assert f"it loses {np.sqrt(s[2] ** 2 / (s**2).sum()):.2%} of their change" in made.notes[1]
    near = RowPatch(
        IDS,
        checkpoint.rows(IDS) + torch.from_numpy((u[:, :2] * s[:2]) @ v[:2]).float(),
        checkpoint.describe(),
    )
    lm = load_model(checkpoint, dtype="float32", device="cpu").lm
    with installed_patch(lm, near):
        wanted = logits_of(lm)
    assert torch.allclose(logits_of(adapted(checkpoint, tmp_path / "lora")), wanted, atol=1e-4, rtol=1e-4)
    assert made.check.passed
    with pytest.raises(UserError, match="was made by another command: `rank`"):
        to_lora(checkpoint, patch, tmp_path / "lora")


@pytest.mark.parametrize("to", ["peft", "lora", "merged"])
def test_the_check_loads_what_peft_and_transformers_load(tied_model, tmp_path, to):
    checkpoint = open_checkpoint(str(tied_model))
    made = export(checkpoint, patch_for(checkpoint, "input", tied=True), tmp_path / "out", to=to, check=True)
    assert made.check.passed
    assert made.check.told >= 1
    assert made.check.runtime == ("transformers" if to == "merged" else "PEFT")


def test_more_rows_than_vllm_loads_are_refused_unless_a_rank_is_given(untied_model, tmp_path, monkeypatch):
    checkpoint = open_checkpoint(str(untied_model))
    patch = patch_for(checkpoint, "input", tied=False)
    monkeypatch.setattr("ks_lottery.models.low_rank.MOST_RANK", 2)
    with pytest.raises(
        UserError, match=r"rank 3, and vLLM loads at most 2: export it as merged, gguf or peft, or give"
    ):
        to_lora(checkpoint, patch, tmp_path / "lora")
    assert not (tmp_path / "lora").exists()
    to_lora(checkpoint, patch, tmp_path / "lora", rank=2)
    with pytest.raises(UserError, match="`rank` is 3, but must be from 1 to 2"):
        export(checkpoint, patch, tmp_path / "more", to="lora", rank=3)


def test_the_card_has_the_rank_that_vllm_needs(untied_model, tmp_path):
    checkpoint = open_checkpoint(str(untied_model))
    ids = np.arange(100, 120)
    to_lora(checkpoint, RowPatch(ids, torch.zeros(20, 32), checkpoint.describe()), tmp_path / "lora")
    card = (tmp_path / "lora" / "README.md").read_text()
    assert f"vllm serve {checkpoint.name} --enable-lora --max-lora-rank 32 --lora-modules rows=." in card
    assert "PeftModel.from_pretrained" in card
