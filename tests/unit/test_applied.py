"""A patch on a model: inside a block it is there, afterwards the model is as it was; or it stays, and is saved with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from ks_lottery import RowPatch, UserError, applied, load_model, open_checkpoint
from ks_lottery.models.quiet import quiet

IDS = np.array([4, 9, 200])
TOKENS = torch.tensor([[1, 4, 50, 9, 9, 200, 7]])


def patch_of(checkpoint, side):
    generator = torch.Generator().manual_seed(1)
    values, other = (torch.randn(3, 32, generator=generator) for _ in range(2))
    apart = side == "both" and checkpoint.head != checkpoint.embedding
    return RowPatch(IDS, values, checkpoint.describe(), {}, side, other if apart else None)


def reference(folder, patch):
    """Return logits of a model whose matrices were changed by hand, untied where they differ."""
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()
    embedding, head = (m.weight.detach().clone() for m in (model.get_input_embeddings(), model.get_output_embeddings()))
    for matrix, values in ((embedding, patch.values_of("input")), (head, patch.values_of("output"))):
        if values is not None:
            matrix[IDS] = values
    model.get_output_embeddings().weight = torch.nn.Parameter(head)
    model.get_input_embeddings().weight = torch.nn.Parameter(embedding)
    with torch.no_grad():
        return model(TOKENS).logits


@pytest.fixture(params=["tied_model", "untied_model"])
def folder(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("side", ["input", "output", "both"])
def test_both_ways_answer_as_changed_matrices(folder, side, tmp_path):
    patch = patch_of(open_checkpoint(folder), side)
    expected = reference(folder, patch)
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    with torch.no_grad():
        plain = model(TOKENS).logits
        manager = applied(patch, model)
        assert torch.equal(model(TOKENS).logits, plain)  # nothing happens before the block
        with manager as inside:
            assert inside is model
            assert torch.allclose(model(TOKENS).logits, expected, atol=1e-5)
        assert torch.equal(model(TOKENS).logits, plain)
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
        with pytest.raises(ZeroDivisionError), applied(patch, model):
            raise ZeroDivisionError
        assert torch.equal(model(TOKENS).logits, plain)

        applied(patch, model, permanently=True)
        assert torch.allclose(model(TOKENS).logits, expected, atol=1e-5)
    still_tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert still_tied == (tied and side == "both")
    model.save_pretrained(tmp_path / "saved")
    with quiet(), torch.no_grad():
        again = AutoModelForCausalLM.from_pretrained(tmp_path / "saved", dtype="float32").eval()
        assert torch.equal(again(TOKENS).logits, model(TOKENS).logits)
    assert not any(
        p.requires_grad != q.requires_grad for p, q in zip(model.parameters(), again.parameters(), strict=True)
    )


def test_in_bfloat16_both_ways_answer_the_same(folder):
    loaded = load_model(folder, dtype="bfloat16", device="cpu")
    patch = patch_of(loaded.checkpoint, "input")
    with torch.no_grad():
        with applied(patch, loaded) as model:
            inside = model(TOKENS).logits
        with applied(patch, loaded, permanently=True) as model:
            assert torch.equal(model(TOKENS).logits, inside)
        assert torch.equal(loaded.lm(TOKENS).logits, inside)


def test_a_patch_of_no_row_unties_nothing(tied_model):
    loaded = load_model(tied_model, dtype="float32", device="cpu")
    applied(patch_of(loaded.checkpoint, "input").restrict(np.array([], dtype=np.int64)), loaded, permanently=True)
    assert loaded.lm.get_output_embeddings().weight is loaded.lm.get_input_embeddings().weight


def test_what_does_not_fit_is_refused_before_anything_changes(tied_model, untied_model, tmp_path):
    loaded = load_model(tied_model, dtype="float32", device="cpu")
    before = loaded.checkpoint.fingerprint
    own, other = (patch_of(open_checkpoint(folder), "both") for folder in (tied_model, untied_model))
    with pytest.raises(UserError, match="give the base that the patch belongs to"):
        applied(other, loaded)
    with pytest.raises(UserError, match="need one set of values"):
        applied(other, loaded.lm)
    wide = RowPatch(IDS, torch.zeros(3, 40), own.base)
    far = RowPatch(np.array([400]), torch.zeros(1, 32), own.base)
    for patch, said in ((wide, "rows of width 40 up to row 200"), (far, "rows of width 32 up to row 400")):
        with pytest.raises(UserError, match=said):
            applied(patch, loaded.lm, permanently=True)
    with pytest.raises(UserError, match="cannot be put on a Linear"):
        applied(own, torch.nn.Linear(2, 2))
    with pytest.raises(UserError, match="holds no patch.safetensors"):
        applied(tmp_path, loaded)
    assert loaded.checkpoint.fingerprint == before
