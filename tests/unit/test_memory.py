"""A model in memory against the folder that transformers saves it to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from ks_lottery import Checkpoint, UserError, from_memory, open_checkpoint
from ks_lottery.checkpoint.memory import MemoryCheckpoint
from ks_lottery.models.quiet import quiet


def gpt2(**settings) -> GPT2LMHeadModel:
    torch.manual_seed(3)
    return GPT2LMHeadModel(GPT2Config(vocab_size=60, n_positions=16, n_embd=8, n_layer=1, n_head=2, **settings))


@pytest.fixture(params=["tied", "untied", "gpt2", "bfloat16"])
def pair(request, tmp_path):
    """A model, and the checkpoint that it was saved to."""
    if request.param in {"tied", "untied"}:
        folder = request.getfixturevalue(f"{request.param}_model")
        with quiet():
            model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
    else:
        model = gpt2().to(torch.bfloat16 if request.param == "bfloat16" else torch.float32)
    model.save_pretrained(tmp_path / "saved")
    return model, Checkpoint.open(tmp_path / "saved")


def test_it_is_read_as_its_folder_is(pair):
    model, saved = pair
    memory = MemoryCheckpoint.of(model)
    assert memory.fingerprint == saved.fingerprint
    assert memory == saved
    assert dict(memory.units) == dict(saved.units)
    assert (memory.embedding, memory.head, memory.vocabulary, memory.width) == (
        saved.embedding, saved.head, saved.vocabulary, saved.width,
    )  # fmt: skip
    assert memory.context == saved.context
    ids = np.array([1, 4, 30])
    for side in ("input", "output"):
        assert torch.equal(memory.rows(ids, side), saved.rows(ids, side))
    for name, unit in saved.units.items():
        for start, stop in ((0, unit.count), (unit.count // 2, unit.count)):
            block = memory.block(name, start, stop)
            assert torch.equal(block, saved.block(name, start, stop))
            assert block.dtype == unit.dtype


def test_no_weight_is_copied_and_none_is_handed_out(pair):
    model, _ = pair
    memory = MemoryCheckpoint.of(model)
    own = {value.data_ptr() for value in model.state_dict().values()}
    assert {value.data_ptr() for value in memory.values.values()} <= own
    before = memory.fingerprint
    for name, unit in memory.units.items():
        memory.block(name, 0, unit.count).zero_()
    memory.rows(np.arange(5)).zero_()
    assert MemoryCheckpoint.of(model).fingerprint == before


def test_the_fingerprint_follows_the_weights(pair):
    model, saved = pair
    memory = MemoryCheckpoint.of(model)
    first = memory.fingerprint
    with torch.no_grad():
        model.get_input_embeddings().weight[3] += 1
    assert memory.fingerprint != first
    assert memory != saved
    assert MemoryCheckpoint.of(model) == memory


def test_a_model_in_memory_is_frozen_and_used_itself(tied_model):
    with quiet():
        model, tokenizer = AutoModelForCausalLM.from_pretrained(tied_model), AutoTokenizer.from_pretrained(tied_model)
    loaded = from_memory(model.train(), tokenizer, name="mine")
    assert loaded.lm is model
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    assert loaded.checkpoint.describe() == {"name": "mine", "fingerprint": open_checkpoint(tied_model).fingerprint}
    assert repr(loaded) == "LoadedModel(mine: LlamaForCausalLM, float32 on cpu)"
    assert open_checkpoint(loaded) is loaded.checkpoint


def test_what_cannot_be_used_is_refused_in_a_sentence(tied_model):
    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(tied_model)
    with pytest.raises(UserError, match="a dict is no model of transformers"):
        from_memory({}, tokenizer)
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(100)
    with pytest.raises(UserError, match="is 100, but its embedding has only 60 rows"):
        from_memory(gpt2(), tokenizer)
    with torch.device("meta"), pytest.raises(UserError, match="is offloaded or sharded"):
        MemoryCheckpoint.of(gpt2())
