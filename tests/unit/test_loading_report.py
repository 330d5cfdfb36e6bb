"""A model that lacks weights is refused: transformers would fill them with random numbers and say nothing."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from ks_lottery import UserError, load_model
from ks_lottery.models.quiet import quiet
from ks_lottery.tuning.tune import tune

LAYER = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture
def variant(untied_model, tmp_path):
    """Write the model with other tensors or settings."""

    def write(change=lambda tensors: tensors, **settings):
        folder = shutil.copytree(untied_model, tmp_path / "variant")
        tensors = change(load_file(folder / "model.safetensors"))
        save_file({n: t.clone() for n, t in tensors.items()}, folder / "model.safetensors", metadata={"format": "pt"})
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **settings}))
        return folder

    return write


WRAPPED = {
    "torch.compile": lambda name: f"_orig_mod.{name}",
    "torch.compile of a layer": lambda name: name.replace("layers.1.", "layers.1._orig_mod."),
    "DDP": lambda name: f"module.{name}",
    "PEFT": lambda name: f"base_model.model.{name}",
    "FSDP": lambda name: f"_fsdp_wrapped_module.{name.replace('layers.1', 'layers.1._fsdp_wrapped_module')}",
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_names_that_a_library_has_changed_are_refused_and_shown(kind, variant):
    rename = WRAPPED[kind]
    folder = variant(lambda tensors: {rename(name): tensor for name, tensor in tensors.items()})
    with quiet():  # the claim about transformers
        loaded = AutoModelForCausalLM.from_pretrained(folder)
    stored = load_file(folder / "model.safetensors")[rename(LAYER)]
    assert not torch.equal(loaded.state_dict()[LAYER], stored)
    with pytest.raises(
        UserError, match=r"cannot be loaded: it has .* under the name .*save the model again"
    ) as refused:
        load_model(folder)
    name, other = str(refused.value).partition("it has ")[2].partition(" (and")[0].split(" under the name ")
    assert other == rename(name)


def test_a_missing_weight_is_named(variant):
    folder = variant(lambda tensors: {n: t for n, t in tensors.items() if n != LAYER})
    with pytest.raises(UserError, match=f"its config needs {LAYER}, which no file has"):
        load_model(folder)


def test_a_missing_head_is_named(variant):
    folder = variant(lambda tensors: {n.removeprefix("model."): t for n, t in tensors.items() if n != "lm_head.weight"})
    with pytest.raises(UserError, match=r"its config needs lm_head.weight, which no file has"):
        load_model(folder)


def test_weights_that_do_not_fit_the_config_are_named_with_both_sizes(variant):
    with pytest.raises(UserError, match="lm_head.weight is 384 x 32, but by its config 390 x 32 .*config.json"):
        load_model(variant(vocab_size=390))


def test_more_layers_than_the_config_has_are_passed_over_as_transformers_does(variant):
    folder = variant(lambda tensors: {**tensors, "model.layers.2.embed_tokens.weight": tensors["lm_head.weight"]})
    assert len(load_model(folder).lm.model.layers) == 2


def test_packed_weights_are_named_when_the_model_is_loaded(variant):
    def pack(tensors):
        return {
            n: t if t.ndim == 1 else torch.zeros(len(t), t.shape[1] // 8, dtype=torch.uint32)
            for n, t in tensors.items()
        }

    with pytest.raises(UserError, match="lm_head.weight is stored as uint32: packed weights are not supported"):
        load_model(variant(pack))


def test_weights_that_are_nan_are_one_sentence(variant, text_file):
    def spoil(tensors):
        tensors[LAYER][3, 5] = float("nan")
        return tensors

    with pytest.raises(UserError, match="its logits are NaN or infinite"):
        tune(variant(spoil), text_file)
