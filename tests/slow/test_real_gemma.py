"""The real Gemma 3 270M, where it is in the cache and its terms were accepted: nothing is fetched for these tests."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch

from ks_lottery import load_model
from ks_lottery.config.choices import GEMMA_MODEL
from ks_lottery.models.unused_tokens import unused_tokens
from ks_lottery.store.embedded_models import is_here, model_gguf
from ks_lottery.store.licenses import GEMMA, acceptance

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not is_here(GEMMA_MODEL) or acceptance(GEMMA) is None, reason="asset:gemma3-270m is not in the cache"
    ),
]

SENTENCES = [
    "The capital of France is Paris, which is also its largest city.",
    "La capital de España es Madrid, que también es su ciudad más grande.",
    "Die Hauptstadt von Deutschland ist Berlin.",
]


@pytest.fixture(scope="module")
def loaded():
    return load_model(GEMMA_MODEL, dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def stored():
    return gguf.GGUFReader(model_gguf(GEMMA_MODEL))


def loss(lm, ids: list[int]) -> float:
    """Return the mean loss of all tokens but the first, in nats."""
    tokens = torch.tensor([ids])
    with torch.no_grad():
        return float(torch.nn.functional.cross_entropy(lm(tokens).logits[0, :-1], tokens[0, 1:]))


def test_the_converted_model_holds_the_floats_of_the_gguf(loaded, stored):
    """Against the gguf package's own dequantisation; llama.cpp stores the norms of this family plus 1."""
    tensors, state = {tensor.name: tensor for tensor in stored.tensors}, loaded.lm.state_dict()
    for theirs, ours, less in (
        ("token_embd.weight", "model.embed_tokens.weight", 0),
        ("blk.3.ffn_down.weight", "model.layers.3.mlp.down_proj.weight", 0),
        ("blk.17.attn_q.weight", "model.layers.17.self_attn.q_proj.weight", 0),
        ("blk.5.post_ffw_norm.weight", "model.layers.5.post_feedforward_layernorm.weight", 1),
        ("output_norm.weight", "model.norm.weight", 1),
    ):
        wanted = gguf.quants.dequantize(tensors[theirs].data, tensors[theirs].tensor_type) - less
        np.testing.assert_array_equal(state[ours].numpy(), wanted.reshape(state[ours].shape), theirs)
    assert (loaded.checkpoint.vocabulary, loaded.checkpoint.width) == (262_144, 640)


def test_each_id_is_the_token_of_the_file(loaded, stored):
    tokens = stored.fields["tokenizer.ggml.tokens"].contents()
    named = loaded.tokenizer.convert_ids_to_tokens(list(range(len(tokens))))
    assert named == [token.replace(" ", "▁") for token in tokens]  # the file has runs of spaces as such
    assert 138 in loaded.tokenizer("a  b")["input_ids"]
    assert tokens[138] == "  "


@pytest.mark.parametrize("text", [*SENTENCES, "東京は日本の首都です。", "a\tb\n\n  c “d” é"])
def test_text_begins_with_bos_and_comes_back(loaded, text):
    ids = loaded.tokenizer(text)["input_ids"]
    assert ids[0] == 2
    assert 1 not in ids
    assert loaded.tokenizer.decode(ids[1:]) == text


@pytest.mark.parametrize("text", SENTENCES)
def test_the_loaded_model_knows_its_languages(loaded, text):
    """A wrong tokenizer, scale or norm gives ln V = 12.5 nats a token and more."""
    ids = loaded.tokenizer(text)["input_ids"]
    assert loss(loaded.lm, ids) < 5
    scale = loaded.lm.get_input_embeddings().embed_scale
    before = scale.clone()
    scale.fill_(1.0)
    try:
        assert loss(loaded.lm, ids) > 8
    finally:
        scale.copy_(before)
    assert before.item() == pytest.approx(640**0.5, rel=1e-2)


def test_its_reserve_is_large(loaded):
    unused = unused_tokens(loaded)
    assert len([token for token in unused if token.text.startswith("<unused")]) > 100
    texts = loaded.tokenizer([token.text for token in unused[:200]], add_special_tokens=False)["input_ids"]
    assert texts == [[token.token] for token in unused[:200]]
