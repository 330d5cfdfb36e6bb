"""A model whose layers are on several devices answers, translates and is differentiated as the whole model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from ks_lottery import UserError, evaluate, open_checkpoint, read_corpus, row_gradients, tune, where
from ks_lottery.models.dispatch import device_map, empty_model
from ks_lottery.models.load import load_model


def layer_bytes(model):
    """Return the bytes of a layer and of the whole model, buffers included."""
    lm = load_model(model, dtype="float32", device="cpu").lm
    both = [(*module.parameters(), *module.buffers()) for module in (lm.model.layers[0], lm)]
    return tuple(sum(4 * tensor.numel() for tensor in tensors) for tensors in both)


@pytest.fixture(params=["tied_model", "untied_model"])
def both(request):
    """The whole model, and one whose second layer is on the disk."""
    model = request.getfixturevalue(request.param)
    layer, every = layer_bytes(model)
    halved = load_model(model, dtype="float32", device="cpu", max_memory={"cpu": every - layer})
    return load_model(model, dtype="float32", device="cpu"), halved


@pytest.fixture
def corpus(text_file):
    return read_corpus(text_file, source_language="en", target_language="ca").head(8)


def test_a_layer_is_read_from_the_disk_and_the_logits_are_those_of_the_whole_model(both):
    whole, halved = both
    offloaded = {name.split(".")[2] for name, p in halved.lm.named_parameters() if p.is_meta}
    assert offloaded == {"1"}
    assert str(halved.device) == "cpu"
    tokens = torch.randint(3, 80, (3, 12), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(halved.lm(input_ids=tokens).logits, whole.lm(input_ids=tokens).logits)


def test_it_is_measured_as_the_whole_model(both, corpus):
    whole, halved = both
    patch = tune(whole, corpus, method="embed", learning_rate=0.3, epochs=1)
    for product in (None, patch):
        a, b = (
            evaluate(model, corpus, product, metrics=("bleu", "accuracy"), num_beams=2, max_new_tokens=6)
            for model in both
        )
        assert a.hypotheses == b.hypotheses
        assert np.array_equal(a.predictions.log_p, b.predictions.log_p)
    assert where(whole, corpus, patch).as_dict() == where(halved, corpus, patch).as_dict()


def test_its_gradients_are_those_of_the_whole_model(both, corpus):
    a, b = (row_gradients(model, corpus) for model in both)
    assert all(np.array_equal(a.scores[name], b.scores[name]) for name in a.scores)


def test_layers_are_spread_evenly_over_gpus_and_both_embeddings_are_on_the_first():
    config = LlamaConfig(
        vocab_size=16, hidden_size=64, intermediate_size=64, num_hidden_layers=12, num_attention_heads=4
    )
    with torch.device("meta"):
        lm = LlamaForCausalLM(config)
    spread = device_map(lm, dict.fromkeys(range(3), 2**30), "m")
    assert [spread[f"model.layers.{number}"] for number in range(12)] == [0] * 4 + [1] * 4 + [2] * 4
    assert {device for place, device in spread.items() if "layers" not in place} == {0}
    assert {name for name, _ in lm.named_parameters()} == {
        name for name, _ in lm.named_parameters() if any(name.startswith(f"{place}.") for place in spread)
    }


def test_what_gpus_have_no_room_for_is_in_main_memory_and_then_on_the_disk(untied_model):
    layer, every = layer_bytes(untied_model)
    lm = empty_model(open_checkpoint(untied_model).folder, torch.float32, trust_remote_code=False)
    spread = device_map(lm, {0: every - 2 * layer, "cpu": layer}, "m")
    assert [spread["model.layers.0"], spread["model.layers.1"]] == ["cpu", "disk"]


def test_what_does_not_fit_is_refused(untied_model):
    layer, every = layer_bytes(untied_model)
    with pytest.raises(UserError, match=r"its embeddings take 0\.00 GiB, but the first device may hold only"):
        load_model(untied_model, dtype="float32", device="cpu", max_memory={"cpu": 1000})
    lm = empty_model(open_checkpoint(untied_model).folder, torch.float32, trust_remote_code=False)
    with pytest.raises(UserError, match=r"do not fit on 2 GPUs\. Give more GPUs \(`processes`\)"):
        device_map(lm, {0: every - 2 * layer, 1: layer}, "m")
