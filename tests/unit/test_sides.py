"""Rows of the output side and of both, against dense training, finite differences, and models that must be refused."""

from __future__ import annotations

import copy
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import nn

from ks_lottery import UserError
from ks_lottery.checkpoint.patch import SIDES, RowPatch
from ks_lottery.models.head import RowHead, float32_logits
from ks_lottery.models.language_model import LabelledLanguageModel
from ks_lottery.models.load import load_model, open_checkpoint
from ks_lottery.models.quiet import quiet
from ks_lottery.models.rows import trainable_rows
from ks_lottery.models.sides import base_values, check_side, installed_patch, installed_rows, is_tied

V = 384
IDS = np.array([0, 5, 77, 301])
MODELS = ["tied_model", "untied_model"]


def batch(seed: int) -> dict[str, torch.Tensor]:
    """Random ids with the padding token inside, and random labels."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, V, (4, 12), generator=generator)
    ids[0, 3], ids[1, 2:5], ids[2, 7] = 0, torch.tensor([5, 77, 301]), 77
    labels = torch.randint(0, V, ids.shape, generator=generator)
    labels[3, 5] = 5
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


@pytest.fixture(params=MODELS)
def loaded(request):
    return load_model(open_checkpoint(str(request.getfixturevalue(request.param))), dtype="float32", device="cpu")


def dense_sides(lm, side: str) -> tuple[nn.Module, list[nn.Parameter]]:
    """Return a copy of the model and the whole matrices that are to be trained in it; a side left alone is cut loose."""
    dense = copy.deepcopy(lm)
    embedding, head = dense.get_input_embeddings(), dense.get_output_embeddings()
    if is_tied(dense) and side != "both":
        head.weight = nn.Parameter(head.weight.detach().clone(), requires_grad=False)
    chosen = {"input": [embedding], "output": [head], "both": [embedding, head]}[side]
    return dense, list({id(m.weight): m.weight.requires_grad_(True) for m in chosen}.values())


@pytest.mark.parametrize("ids", [IDS, np.arange(V)], ids=["some", "every"])
@pytest.mark.parametrize("side", SIDES)
def test_training_a_side_is_training_its_whole_matrix_with_the_other_rows_gradients_thrown_away(loaded, side, ids):
    rate, steps = 0.01, 6
    dense, matrices = dense_sides(loaded.lm, side)
    keep = torch.zeros(V, 1)
    keep[ids] = 1
    optimizer = torch.optim.Adam(matrices, lr=rate)
    for step in range(steps):
        LabelledLanguageModel(dense)(**batch(step))["loss"].backward()
        for matrix in matrices:
            matrix.grad *= keep
        optimizer.step()
        optimizer.zero_grad()
    with installed_rows(loaded.lm, ids, side=side, **base_values(loaded, ids, side)) as rows:
        optimizer = torch.optim.Adam(rows.parameters(), lr=rate)
        for step in range(steps):
            LabelledLanguageModel(loaded.lm)(**batch(step))["loss"].backward()
            optimizer.step()
            optimizer.zero_grad()
        patch = rows.patch_values()
    ours = [values for values in (patch["values"], patch["output_values"]) if values is not None]
    assert len(ours) == len(matrices) == (2 if side == "both" and not is_tied(loaded.lm) else 1)
    for values, matrix in zip(ours, matrices, strict=True):
        # Adam divides by the root of a squared gradient: where that is tiny, rounding shows. It must stay far below a step.
        assert (values - matrix.detach()[ids]).abs().max() < 0.05 * rate
        assert (values - loaded.checkpoint.rows(ids)).abs().max() > rate
    if side == "input":
        padding = np.flatnonzero(ids == 0)
        assert torch.equal(patch["values"][padding], loaded.checkpoint.rows(np.array([0])))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("side", SIDES)
def test_gradients_of_rows_are_finite_differences(side, tied):
    """GPT-2, since its norms stay in float64; LLaMA's go through float32 whatever the model is in."""
    torch.manual_seed(4)
    sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 16, "initializer_range": 0.3}
    config = transformers.GPT2Config(vocab_size=V, tie_word_embeddings=tied, **sizes)
    lm = transformers.GPT2LMHeadModel(config).double().eval().requires_grad_(requires_grad=False)
    inputs, step = batch(1), 1e-6

    def loss() -> torch.Tensor:
        logits = lm(inputs["input_ids"], use_cache=False).logits
        return F.cross_entropy(logits.flatten(0, 1), inputs["labels"].flatten())

    rows_of = lm.lm_head.weight if side == "output" else lm.transformer.wte.weight
    other = lm.lm_head.weight[IDS] if side == "both" and not tied else None
    with installed_rows(lm, IDS, rows_of[IDS], side, other) as rows:
        loss().backward()
        gradients = [parameter.grad.clone() for parameter in rows.parameters()]
        for parameter, gradient in zip(rows.parameters(), gradients, strict=True):
            assert parameter.dtype == torch.float64
            for place, column in ((0, 3), (1, 0), (2, 15), (3, 7)):
                with torch.no_grad():
                    parameter[place, column] += step
                    up = loss()
                    parameter[place, column] -= 2 * step
                    down = loss()
                    parameter[place, column] += step
                difference = (up - down) / (2 * step)
                assert abs(float(difference)) > 1e-5
                assert torch.allclose(gradient[place, column], difference, rtol=1e-5, atol=1e-9)


def test_both_sides_of_a_tied_model_are_one_parameter(tied_model):
    loaded = load_model(open_checkpoint(str(tied_model)), dtype="float32", device="cpu")
    before = loaded.lm.get_input_embeddings(), loaded.lm.get_output_embeddings()
    with installed_rows(loaded.lm, IDS, side="both", **base_values(loaded, IDS, "both")) as rows:
        assert rows.embedding.rows is rows.head.rows is rows.rows
        assert [p for p in loaded.lm.parameters() if p.requires_grad] == rows.parameters()
        assert set(rows.named()) == {"input", "output"}
    assert (loaded.lm.get_input_embeddings(), loaded.lm.get_output_embeddings()) == before


@pytest.mark.parametrize("count", [3, 50_000])
def test_a_step_of_the_head_never_copies_the_matrix(count):
    vocabulary, width = 50_000, 64
    frozen = nn.Linear(width, vocabulary)
    values = torch.randn(count, width)
    module = RowHead(frozen, np.arange(count), values)
    hidden = torch.randn(2, width, requires_grad=True)
    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        module(hidden).square().sum().backward()
    sizes = [event.self_cpu_memory_usage for event in profile.events()]
    large = [size for size in sizes if size >= vocabulary * width * 4 / 4]
    assert len(large) == (0 if count < vocabulary else 1)  # with every row: the one gradient that is asked for
    assert frozen.weight.grad is None
    assert module.rows.grad is not None
    assert hidden.grad is not None


@pytest.mark.parametrize("ids", [np.array([], dtype=np.int64), np.array([2, 7]), np.arange(40)], ids=len)
@pytest.mark.parametrize("bias", [False, True])
def test_logits_are_those_of_a_patched_matrix(ids, bias):
    frozen, hidden = nn.Linear(8, 40, bias=bias), torch.randn(2, 3, 8)
    values = torch.randn(len(ids), 8)
    patched = copy.deepcopy(frozen)
    patched.weight.data[ids] = values
    head = RowHead(frozen, ids, values)
    assert torch.allclose(head(hidden), patched(hidden), atol=1e-6)
    assert torch.allclose(float32_logits(head, hidden), patched(hidden), atol=1e-6)
    half = RowHead(copy.deepcopy(frozen).bfloat16(), ids, values)
    patched.bfloat16()
    assert half.rows.dtype == torch.float32
    assert half(hidden.bfloat16()).dtype == torch.bfloat16
    assert torch.allclose(float32_logits(half, hidden), patched.float()(hidden), atol=1e-5)


def test_every_row_can_be_trained_on_the_output_side(loaded):
    sequences = [[5, 3, 9], [0, 3, 2]]
    assert trainable_rows(sequences, loaded.lm, "input").tolist() == [3, 5]
    for side in ("output", "both"):
        assert trainable_rows(sequences, loaded.lm, side).tolist() == list(range(V))


def test_values_that_do_not_fit_the_model_are_refused(loaded):
    values = loaded.checkpoint.rows(IDS)
    wrong = values if is_tied(loaded.lm) else None
    for side, other in (("both", wrong), ("input", values), ("output", values)):
        with (
            pytest.raises(ValueError, match="output_values belong"),
            installed_rows(loaded.lm, IDS, values, side, other),
        ):
            pass


def test_restricting_to_nothing_is_the_base(loaded):
    values = base_values(loaded, IDS, "both")
    patch = RowPatch(IDS, base={}, side="both", **{k: v if v is None else v + 1 for k, v in values.items()})
    inputs = batch(0)["input_ids"]
    with torch.no_grad():
        before = loaded.lm(inputs).logits
        with installed_patch(loaded.lm, patch):
            assert not torch.allclose(loaded.lm(inputs).logits, before)
        with installed_patch(loaded.lm, patch.restrict(IDS[:0])):
            assert torch.equal(loaded.lm(inputs).logits, before)


def test_a_model_that_reads_its_matrices_past_their_modules_is_refused(untied_model):
    loaded = load_model(open_checkpoint(str(untied_model)), dtype="float32", device="cpu")
    lm = loaded.lm
    plain = lm.forward

    def reads_the_head(input_ids, attention_mask=None, **more):
        hidden = lm.model(input_ids, attention_mask=attention_mask)[0]
        return type("Output", (), {"logits": hidden @ lm.lm_head.weight.T})()

    check_side(lm, "both", "it")
    lm.forward = reads_the_head
    check_side(lm, "input", "it")
    with pytest.raises(
        UserError, match=r"it cannot be tuned on side output: it reads the matrix of its output embedding"
    ):
        check_side(lm, "output", "it")
    lm.forward = lambda input_ids, attention_mask=None, **more: plain(
        inputs_embeds=F.embedding(input_ids, lm.model.embed_tokens.weight)
    )
    with pytest.raises(UserError, match=r"reads the matrix of its input embedding"):
        check_side(lm, "input", "it")


class Narrow(nn.Linear):
    pass


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (None, "no output embedding"),
        (Narrow(32, V), "a Narrow, not a plain"),
        (nn.Linear(32, V + 1), "385 rows and its input embedding 384"),
    ],
)
def test_other_heads_are_refused(untied_model, head, message):
    lm = load_model(open_checkpoint(str(untied_model)), dtype="float32", device="cpu").lm
    lm.lm_head = head
    with pytest.raises(UserError, match=f"it cannot be tuned on side output: .*{message}"):
        check_side(lm, "output", "it")


def saved(model, tokenizer_of, folder):
    with quiet():
        model.save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer_of / file, folder / file)
    return open_checkpoint(str(folder))


def test_an_encoder_decoder_is_refused_by_name(untied_model, tmp_path):
    config = transformers.T5Config(vocab_size=V, d_model=32, d_kv=8, d_ff=48, num_layers=1, num_heads=4)
    torch.manual_seed(0)
    checkpoint = saved(transformers.T5ForConditionalGeneration(config), untied_model, tmp_path)
    with pytest.raises(UserError, match=r"cannot be handled: it is an encoder-decoder \(t5\)"):
        load_model(checkpoint)


def test_a_model_that_looks_ahead_is_refused(untied_model, tmp_path):
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
    torch.manual_seed(0)
    with quiet():
        model = transformers.BertForMaskedLM(transformers.BertConfig(vocab_size=V, initializer_range=0.5, **sizes))
    checkpoint = saved(model, untied_model, tmp_path)
    loaded = load_model(checkpoint, dtype="float32", device="cpu")
    with pytest.raises(UserError, match="no causal language model"):
        check_side(loaded.lm, "input", "it")


def test_a_missing_head_is_not_made_up(untied_model, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(untied_model, tmp_path / "headless")
    tensors = load_file(untied_model / "model.safetensors")
    del tensors["lm_head.weight"]
    save_file(tensors, tmp_path / "headless" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="needs lm_head.weight, which no file has"):
        load_model(open_checkpoint(str(tmp_path / "headless")))
