"""Every setting of PEFT's configs: merged as PEFT merges it, or refused by its name."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
import shutil
import warnings

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, PromptLearningConfig, TrainableTokensConfig, get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTuner, check_target_module_exists
from peft.utils.other import get_pattern_key
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from ks_lottery import UserError, scan
from ks_lottery.checkpoint.adapter import AdaptedCheckpoint
from ks_lottery.checkpoint.adapter_settings import (
    CHECKS,
    KNOWN,
    UNMERGED,
    UNMERGED_SETTINGS,
    WITHOUT_EFFECT,
    AdapterSettings,
)
from ks_lottery.models.quiet import quiet
from ks_lottery.models.sources import open_source

LORA = {"r": 2, "lora_alpha": 5, "task_type": "CAUSAL_LM"}
ROWS = 390
"""Rows of a vocabulary that was resized, from 384."""


def lora(*modules, **more):
    return LoraConfig(target_modules=list(modules), **{**LORA, **more})


def tokens(*ids, **more):
    return TrainableTokensConfig(token_indices=list(ids), task_type="CAUSAL_LM", **more)


EVERYWHERE = {
    "LoRA of the embedding": lora("embed_tokens"),
    "LoRA of the head": lora("lm_head"),
    "LoRA of both": lora("embed_tokens", "lm_head"),
    "LoRA of the embedding, tied": lora("embed_tokens", ensure_weight_tying=True),
    "LoRA of the head, tied": lora("lm_head", ensure_weight_tying=True),
    "embedding saved": lora("q_proj", modules_to_save=["embed_tokens"]),
    "head saved": lora("q_proj", modules_to_save=["lm_head"]),
    "both saved": lora("q_proj", modules_to_save=["embed_tokens", "lm_head"]),
    "embedding saved, tied": lora("q_proj", modules_to_save=["embed_tokens"], ensure_weight_tying=True),
    "head saved, tied": lora("q_proj", modules_to_save=["lm_head"], ensure_weight_tying=True),
    "tokens as a list": lora("q_proj", trainable_token_indices=[5, 3]),
    "tokens of the embedding": lora("q_proj", trainable_token_indices={"embed_tokens": [300, 3]}),
    "tokens of the head": lora("q_proj", trainable_token_indices={"lm_head": [5, 3]}),
    "the same tokens of both": lora("q_proj", trainable_token_indices={"embed_tokens": [5, 3], "lm_head": [5, 3]}),
    "tokens, tied": lora("q_proj", trainable_token_indices=[5, 3], ensure_weight_tying=True),
    "tokens alone": tokens(5, 3, 200),
    "tokens of the head alone": tokens(7, 1, target_modules=["lm_head"]),
    "tokens from random values": tokens(7, 1, init_weights=False),
}
"""Adapters of the vocabulary, over a tied and an untied base, before and after a resize."""

PLAIN = {
    "dropout": lora("q_proj", lora_dropout=0.3),
    "a pattern": LoraConfig(target_modules=r".*\.1\.self_attn\.[qv]_proj", **LORA),
    "all linear": LoraConfig(target_modules="all-linear", **LORA),
    "excluded": lora("q_proj", "v_proj", exclude_modules=["layers.0.self_attn.q_proj"]),
    "excluded by a pattern": LoraConfig(target_modules=["q_proj"], exclude_modules=r".*layers\.0.*", **LORA),
    "some layers": lora("q_proj", "up_proj", layers_to_transform=[1], layers_pattern="layers"),
    "one layer": lora("q_proj", layers_to_transform=0),
    "rank by pattern": lora("q_proj", "k_proj", rank_pattern={r"^model.layers.1.*": 4, "k_proj": 3}),
    "alpha by pattern": lora("q_proj", "k_proj", alpha_pattern={"layers.0.self_attn.q_proj": 3, ".*k_proj": 9}, r=4),
    "stabilised by pattern": lora("q_proj", "k_proj", use_rslora=True, rank_pattern={"k_proj": 9}),
    "fan in": lora("q_proj", fan_in_fan_out=True),
    "gaussian": lora("q_proj", init_lora_weights="gaussian"),
    "orthogonal": lora("q_proj", init_lora_weights="orthogonal"),
    "random": lora("q_proj", init_lora_weights=False),
    "minor components": lora("q_proj", init_lora_weights="mica"),
    "a block saved": lora("q_proj", modules_to_save=["mlp", "norm"]),
}


def saved(model, config, folder):
    """Save an adapter with random values over a model."""
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted = get_peft_model(model, copy.deepcopy(config))
        generator = torch.Generator().manual_seed(1)
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
        adapted.save_pretrained(folder)


def merged(model, folder):
    """Return the model that PEFT merges."""
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return PeftModel.from_pretrained(model, folder).merge_and_unload()


def values_of(model):
    return {"lm_head.weight": model.get_output_embeddings().weight.detach(), **model.state_dict()}


def resized(folder):
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(ROWS)
    return model


def check(base, adapter, wanted):
    adapted = open_source(adapter, open_source(base))
    assert isinstance(adapted, AdaptedCheckpoint)
    for name, unit in adapted.units.items():
        values = wanted[name].reshape(unit.count, unit.width)
        assert torch.allclose(adapted.block(name, 0, unit.count), values, atol=1e-5), name
        before = adapted.base.units.get(name)
        same = (
            before is not None
            and (before.count, before.width) == (unit.count, unit.width)
            and torch.equal(adapted.block(name, 0, unit.count).float(), adapted.base.block(name, 0, unit.count).float())
        )
        if before is not None:
            assert adapted.is_changed(name) != same, name
    head = adapted.block(adapted.head, 0, adapted.units[adapted.head].count)
    assert torch.allclose(head, wanted["lm_head.weight"], atol=1e-5)
    return adapted


def compared_with_peft(folder, config, out):
    with quiet():
        saved(AutoModelForCausalLM.from_pretrained(folder), config, out)
        model = AutoModelForCausalLM.from_pretrained(folder)
    return check(folder, out, values_of(merged(model, out)))


@pytest.mark.parametrize("fixture", ["tied_model", "untied_model"])
@pytest.mark.parametrize("case", EVERYWHERE)
def test_adapters_of_the_vocabulary(case, fixture, request, tmp_path):
    compared_with_peft(request.getfixturevalue(fixture), EVERYWHERE[case], tmp_path)


@pytest.mark.parametrize("case", PLAIN)
def test_settings_that_change_what_is_merged(case, untied_model, tmp_path):
    adapted = compared_with_peft(untied_model, PLAIN[case], tmp_path)
    assert any(map(adapted.is_changed, adapted.units))


@pytest.mark.parametrize("fixture", ["tied_model", "untied_model"])
@pytest.mark.parametrize("case", EVERYWHERE)
def test_a_resized_vocabulary_is_scanned_like_the_merged_model(case, fixture, request, tmp_path):
    folder = request.getfixturevalue(fixture)
    with quiet():
        saved(resized(folder), EVERYWHERE[case], tmp_path / "adapter")
        model = merged(resized(folder), tmp_path / "adapter")
        model.save_pretrained(tmp_path / "merged")
        resized(folder).save_pretrained(tmp_path / "base")
    wanted = values_of(model)
    whole = check(tmp_path / "base", tmp_path / "adapter", wanted)  # over the base that was resized already
    assert whole.units[whole.embedding].count == ROWS
    tensors = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    for side in ("model.embed_tokens", "lm_head"):  # PEFT leaves out new rows that the training did not change
        if fixture == "untied_model" and not any(side in name for name in tensors):
            wanted[f"{side}.weight"] = open_source(folder).block(f"{side}.weight", 0, 384)
    check(folder, tmp_path / "adapter", wanted)
    for units, side in (("embedding", "model.embed_tokens.weight"), ("output", "lm_head.weight")):
        if len(wanted[side]) == ROWS:
            one, other = (scan(folder, tmp_path / name, units=units) for name in ("adapter", "merged"))
            np.testing.assert_array_equal(one.counts, other.counts)
            assert [part.added for part in one.parts] == [part.added for part in other.parts] == [ROWS - 384]


REFUSED = {
    "use_dora": True, "use_qalora": True, "megatron_config": {"a": 1}, "alora_invocation_tokens": [1, 2],
    "layer_replication": [[0, 1], [0, 1]], "target_parameters": ["q_proj.weight"], "use_bdlora": {"target_modules": ["a"]},
    "arrow_config": {"top_k": 3}, "kasa_config": {"a": 1}, "monteclora_config": {"a": 1}, "velora_config": {"a": 1},
    "init_lora_weights": "pissa", "a_setting_of_the_future": {"on": True},
}  # fmt: skip
START = ("pissa", "PISSA", "pissa_niter_16", "olora", "corda", "loftq", "lora_ga", "something new")
BAD = {
    "r": ["8", 0, -1, 2.0, True, None, [8]],
    "lora_alpha": [None, "16", True, float("nan"), float("inf"), [1]],
    "use_rslora": ["yes", 1], "fan_in_fan_out": ["no"], "lora_bias": [1], "ensure_weight_tying": [{}],
    "bias": [None, "some", 1], "init_lora_weights": [1, []],
    "target_modules": [7, {"a": 1}, [1], [None], "(", None, []],
    "exclude_modules": [7, [1], "("], "layers_pattern": [3, [1]], "modules_to_save": ["norm", [1], {"a": 1}],
    "layers_to_transform": ["1", [1.5], [True]],
    "rank_pattern": [[], {"q_proj": 0}, {"q_proj": "2"}, {"(": 2}],
    "alpha_pattern": [[], {"q_proj": None}, {"(": 2.0}],
    "trainable_token_indices": [[-1], [1.5], [3, 3], ["3"], [True], {"embed_tokens": [-2]}, {"embed_tokens": 3}, 5, [1 << 70]],
}  # fmt: skip


@pytest.fixture(scope="module")
def adapter(tmp_path_factory, untied_model):
    folder = tmp_path_factory.mktemp("adapter")
    with quiet():
        saved(AutoModelForCausalLM.from_pretrained(untied_model), lora("q_proj"), folder)
    return folder


def with_setting(adapter, folder, key, value):
    shutil.copytree(adapter, folder, dirs_exist_ok=True)
    about = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**about, key: value}))
    return folder


@pytest.mark.parametrize("key", REFUSED)
def test_a_setting_that_is_not_implemented_is_refused_by_its_name(key, adapter, untied_model, tmp_path):
    remedy = "PEFT cannot merge it" if key in UNMERGED_SETTINGS else "merge it with PEFT"
    with pytest.raises(UserError, match=f"sets {key} to .*, which is not implemented here: {remedy}"):
        scan(untied_model, with_setting(adapter, tmp_path, key, REFUSED[key]))
    for value in (None, False, [], {}, ""):
        if key != "init_lora_weights":
            scan(untied_model, with_setting(adapter, tmp_path, key, value))


@pytest.mark.parametrize("start", START)
def test_an_adapter_that_was_saved_relative_to_a_changed_base_is_refused(start, adapter, untied_model, tmp_path):
    with pytest.raises(UserError, match="sets init_lora_weights to"):
        scan(untied_model, with_setting(adapter, tmp_path, "init_lora_weights", start))


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in BAD.items() for value in values])
def test_values_of_another_type_are_refused_by_the_name_of_the_setting(key, value, adapter, untied_model, tmp_path):
    with pytest.raises(UserError, match=re.escape(key)):
        scan(untied_model, with_setting(adapter, tmp_path, key, value), units="all")


@pytest.mark.parametrize("kind", [kind.value for kind in PEFT_TYPE_TO_CONFIG_MAPPING])
def test_merging_is_advised_only_where_peft_can_merge(kind, untied_model, tmp_path):
    """A kind with virtual tokens has a class of settings of its own; what can be merged has the method."""
    tuner = PEFT_TYPE_TO_TUNER_MAPPING[kind]
    virtual = issubclass(PEFT_TYPE_TO_CONFIG_MAPPING[kind], PromptLearningConfig)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": kind}))
    if kind in KNOWN:
        return
    with pytest.raises(UserError, match=f"is of kind {kind}") as refused:
        scan(untied_model, tmp_path)
    assert ("virtual tokens" in str(refused.value)) == virtual
    if virtual or not issubclass(tuner, BaseTuner):
        assert "merge it" not in str(refused.value)
    elif kind not in UNMERGED:
        assert "merge it with PEFT" in str(refused.value)


def test_each_setting_of_peft_has_been_decided():
    fields = {f.name for config in (LoraConfig, TrainableTokensConfig) for f in dataclasses.fields(config)}
    assert fields - CHECKS.keys() - WITHOUT_EFFECT <= REFUSED.keys()
    assert CHECKS.keys() | WITHOUT_EFFECT <= fields


def test_a_pattern_that_takes_for_ever_is_refused(adapter, untied_model, tmp_path):
    with pytest.raises(UserError, match="target_modules has a pattern that takes too long to match"):
        scan(untied_model, with_setting(adapter, tmp_path, "target_modules", r"(.|.)*(.|.)*\d"))


@pytest.mark.parametrize(
    "settings",
    [
        *(
            {"target_modules": t}
            for t in (["q_proj"], ["proj"], [], r".*self_attn\.q_proj", "q_proj", ["layers.1.mlp.up_proj"])
        ),
        *({"target_modules": ["q_proj", "up_proj"], "layers_to_transform": n} for n in (0, [1], [], [7])),
        {"target_modules": ["q_proj"], "layers_to_transform": [1], "layers_pattern": "layers"},
        {"target_modules": ["q_proj"], "layers_to_transform": [1], "layers_pattern": ["blocks", "layers"]},
        {"target_modules": ["q_proj"], "layers_to_transform": [1], "layers_pattern": []},
        {"target_modules": ["model.layers.0.self_attn.q_proj"], "layers_to_transform": [1]},
        {"target_modules": ["q_proj", "up_proj"], "exclude_modules": ["layers.0.mlp.up_proj"]},
        {"target_modules": ["q_proj", "up_proj"], "exclude_modules": r".*\.1\..*"},
        {"target_modules": ["q_proj", "up_proj"], "modules_to_save": ["mlp"]},
        {"target_modules": ["q_proj", "up_proj"], "modules_to_save": ["up"]},
    ],
)
def test_modules_are_chosen_as_peft_chooses_them(settings, adapter, untied_model, tmp_path):
    about = LoraConfig(**settings)
    about.target_modules = settings["target_modules"]  # PEFT makes a set of a list
    ours = AdapterSettings("adapter", {"peft_type": "LORA", **settings})
    modules = [name.removesuffix(".weight") for name in open_source(untied_model).units]
    for module in modules:
        assert (ours.targets(module, vocabulary=False) is None) == bool(check_target_module_exists(about, module)), (
            module
        )


@pytest.mark.parametrize(
    "patterns", [{"q_proj": 3, "self_attn.q_proj": 4}, {"^q_proj": 3}, {r"model\.layers\.\d+\.mlp.*": 9}, {}]
)
def test_patterns_are_matched_as_peft_matches_them(patterns, untied_model):
    ours = AdapterSettings("adapter", {"peft_type": "LORA", "rank_pattern": patterns, "alpha_pattern": patterns})
    for module in (name.removesuffix(".weight") for name in open_source(untied_model).units):
        rank = patterns.get(get_pattern_key(patterns, module), 8)
        assert ours.rank(module) == rank
        assert ours.scale(module) == patterns.get(get_pattern_key(patterns, module), 8) / rank


EMBED = "base_model.model.model.embed_tokens."
PROJ = "base_model.model.model.layers.0.self_attn.q_proj."


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({PROJ + "lora_A.weight": (2, 32)}, "has lora_A.weight and nothing else, from which no change follows"),
        ({PROJ + "lora_A.weight": (3, 32), PROJ + "lora_B.weight": (32, 2)}, "LoRA A of .* is 3 x 32, not 2 x 32"),
        ({PROJ + "lora_A.weight": (3, 32), PROJ + "lora_B.weight": (32, 3)}, "LoRA B of .* is 32 x 3, not 32 x 2"),
        ({PROJ + "lora_A.weight": (0, 32), PROJ + "lora_B.weight": (32, 0)}, "32 x 0, not 32 x 2"),
        ({PROJ + "lora_A.weight": (2, 32, 1, 1), PROJ + "lora_B.weight": (32, 2, 1, 1)}, "32 x 2 x 1 x 1, not 32 x 2"),
        ({PROJ + "lora_A.weight": (), PROJ + "lora_B.weight": ()}, "a single number, not 32 x 2"),
        (
            {EMBED + "lora_embedding_A": (2, 384), EMBED + "lora_embedding_B": (32, 2)},
            "its target_modules does not include",
        ),
        ({EMBED + "weight": (384, 31)}, "whole of .* is 384 x 31"),
        ({EMBED + "weight": (384,)}, "whole of .* is 384, not"),
        ({EMBED + "weight": (0, 32)}, "whole of .* is 0 x 32"),
        ({PROJ + "weight": (40, 32)}, "whole of .* is 40 x 32, not 32 x 32"),
        ({PROJ + "bias": (32,)}, "changes model.layers.0.self_attn.q_proj.bias, which .* does not have"),
        ({EMBED + "weight": (384, 32), EMBED + "base_layer.weight": (384, 32)}, "from which no change follows"),
        ({EMBED + "trainable_tokens_delta": (2, 32)}, "whose rows its config does not name"),
        ({}, "contains no tensor"),
    ],
)
def test_tensors_that_peft_could_not_use_are_refused(tensors, message, adapter, untied_model, tmp_path):
    shutil.copytree(adapter, tmp_path, dirs_exist_ok=True)
    save_file({name: torch.ones(shape) for name, shape in tensors.items()}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(UserError, match=message):
        scan(untied_model, tmp_path, units="all")


@pytest.mark.parametrize("kind", [torch.int32, torch.bool, torch.complex64, torch.uint8])
def test_tensors_of_another_type_are_refused(kind, adapter, untied_model, tmp_path):
    shutil.copytree(adapter, tmp_path, dirs_exist_ok=True)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    save_file({name: tensor.to(kind) for name, tensor in tensors.items()}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(UserError, match="must be of floats|truncated or no safetensors"):
        scan(untied_model, tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(value, adapter, untied_model, tmp_path):
    shutil.copytree(adapter, tmp_path, dirs_exist_ok=True)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    tensors[PROJ + "lora_B.weight"][3, 1] = value
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    with pytest.raises(UserError, match=r"LoRA of model.layers.0.self_attn.q_proj.weight holds NaN or infinite values"):
        scan(untied_model, tmp_path)


def test_half_precision_is_read_as_its_values(adapter, untied_model, tmp_path):
    shutil.copytree(adapter, tmp_path, dirs_exist_ok=True)
    tensors = {name: t.bfloat16() for name, t in load_file(tmp_path / "adapter_model.safetensors").items()}
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    with quiet():
        wanted = values_of(merged(AutoModelForCausalLM.from_pretrained(untied_model), tmp_path))
    check(untied_model, tmp_path, wanted)


def test_a_file_that_is_no_regular_file_is_refused(adapter, untied_model, tmp_path):
    import os

    for name in ("adapter_model.safetensors", "adapter_config.json"):
        folder = tmp_path / name
        shutil.copytree(adapter, folder)
        (folder / name).unlink()
        os.mkfifo(folder / name)
        with pytest.raises(UserError, match=re.escape(f"{name} is not a regular file")):
            AdaptedCheckpoint.open(folder, open_source(untied_model))
