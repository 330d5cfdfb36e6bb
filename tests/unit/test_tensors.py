"""Which tensors are the embeddings: those of the model that transformers builds; several are told apart or named."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from ks_lottery import UserError, open_checkpoint, scan

FORMAT = {"format": "pt"}


def write(folder, names, shape=(20, 4), config=None):
    folder.mkdir(exist_ok=True)
    save_file({name: torch.randn(shape) if isinstance(shape, tuple) else torch.randn(shape[name]) for name in names},
              folder / "model.safetensors")  # fmt: skip
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", **(config or {})}))
    return open_checkpoint(folder)


def test_a_layer_with_an_embedding_of_its_own(untied_model, tmp_path):
    """As layers that predict several tokens have it; transformers passes them over."""
    tensors = load_file(untied_model / "model.safetensors")
    folder = shutil.copytree(untied_model, tmp_path / "mtp")
    extra = {"model.layers.2.embed_tokens.weight": tensors["model.embed_tokens.weight"] + 1,
             "model.layers.2.shared_head.head.weight": tensors["lm_head.weight"] + 1,
             "model.layers.2.lm_head.weight": tensors["lm_head.weight"] + 1}  # fmt: skip
    save_file({**tensors, **extra}, folder / "model.safetensors", metadata=FORMAT)
    checkpoint = open_checkpoint(folder)
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    names = {id(parameter): name for name, parameter in loaded.named_parameters()}
    assert checkpoint.embedding == names[id(loaded.get_input_embeddings().weight)]
    assert checkpoint.head == names[id(loaded.get_output_embeddings().weight)]
    assert scan(untied_model, folder).moved.sum() == 0


@pytest.mark.parametrize(("names", "wanted"), [
    (["model.embed_tokens.weight", "mtp.0.embed_tokens.weight"], "model.embed_tokens.weight"),
    (["model.embed_tokens.weight", "model.vision.text.embed_tokens.weight"], "model.embed_tokens.weight"),
    (["mtp.0.wte.weight", "model.text.decoder.wte.weight"], "model.text.decoder.wte.weight"),
    (["model.layers.3.embed_tokens.weight"], "model.layers.3.embed_tokens.weight"),
    (["a.wte.weight", "b.a.wte.weight", "c.d.wte.weight"], "a.wte.weight"),
])  # fmt: skip
def test_the_embedding_is_at_the_usual_place(tmp_path, names, wanted):
    assert write(tmp_path / "m", names).embedding == wanted


@pytest.mark.parametrize("names", [
    ["thinker.model.embed_tokens.weight", "talker.model.embed_tokens.weight"],
    ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight"],
    ["model.embed_tokens.weight", "tok_embeddings.weight"],
])  # fmt: skip
def test_several_embeddings_are_named(tmp_path, names):
    with pytest.raises(UserError, match="several input embeddings") as refused:
        _ = write(tmp_path / "m", names).embedding
    assert all(name in str(refused.value) for name in names)


def test_the_number_of_rows_decides_where_the_place_does_not(tmp_path):
    shapes = {"thinker.model.embed_tokens.weight": (20, 4), "talker.model.embed_tokens.weight": (7, 4)}
    for config in ({"vocab_size": 7}, {"text_config": {"vocab_size": 7}}):
        assert write(tmp_path / "m", shapes, shapes, config).embedding == "talker.model.embed_tokens.weight"


def test_several_heads_are_named(tmp_path):
    names = ["model.embed_tokens.weight", "a.lm_head.weight", "b.lm_head.weight"]
    with pytest.raises(UserError, match=r"several output embeddings \(a.lm_head.weight, b.lm_head.weight\)"):
        _ = write(tmp_path / "m", names).head


@pytest.mark.parametrize("shape", [(0, 8), (64, 0), (0, 0)])
def test_an_embedding_without_values_is_named(tmp_path, shape):
    checkpoint = write(tmp_path / "m", ["model.embed_tokens.weight"], shape)
    with pytest.raises(UserError, match=f"is {shape[0]} x {shape[1]}, and so has no values"):
        _ = checkpoint.embedding


@pytest.mark.parametrize("side", ["base", "tuned"])
def test_tensors_without_values_are_not_compared(tmp_path, side):
    for name in ("base", "tuned"):
        write(tmp_path / name, ["model.embed_tokens.weight"])
        tensors = {"model.embed_tokens.weight": torch.ones(20, 4)}
        tensors |= {"empty.weight": torch.empty(3, 0), "none.bias": torch.empty(0)} if name == side else {}
        save_file(tensors, tmp_path / name / "model.safetensors")
    assert scan(tmp_path / "base", tmp_path / "tuned", units="all").moved.tolist() == [0] * 20


PACKED = {
    "bitsandbytes 4 bits": ({"q_proj.weight": torch.uint8, "q_proj.weight.absmax": torch.uint8}, "bitsandbytes"),
    "bitsandbytes 8 bits": ({"q_proj.weight": torch.int8, "q_proj.SCB": torch.float32}, "bitsandbytes"),
    "GPTQ": ({"q_proj.qweight": torch.int32, "q_proj.qzeros": torch.int32, "q_proj.scales": torch.float16}, "gptq"),
    "AWQ": ({"q_proj.qweight": torch.int32, "q_proj.scales": torch.float16}, "awq"),
    "compressed-tensors": (
        {"q_proj.weight_packed": torch.int32, "q_proj.weight_scale": torch.bfloat16},
        "compressed-tensors",
    ),
    "MLX": ({"q_proj.weight": torch.uint32, "q_proj.scales": torch.float16, "q_proj.biases": torch.float16}, None),
    "MXFP4": ({"experts.up_proj_blocks": torch.uint8, "experts.up_proj_scales": torch.uint8}, "mxfp4"),
}


@pytest.mark.parametrize("kind", PACKED)
def test_packed_weights_are_refused_by_name_and_the_embedding_is_compared(tmp_path, kind):
    tensors, method = PACKED[kind]
    rows = torch.randn(20, 8)
    config = {} if method is None else {"quantization_config": {"quant_method": method}}
    for name, shift in (("base", 0), ("tuned", 1)):
        folder = tmp_path / name
        write(folder, [], config=config)
        content = {f"model.layers.0.{n}": torch.ones(8, 8, dtype=t) + (shift if t.is_floating_point else 0)
                   if t != torch.uint32 else torch.zeros(8, 8, dtype=t) for n, t in tensors.items()}  # fmt: skip
        ids = {
            "model.layers.0.position_ids": torch.arange(8)[None],
            "model.layers.0.mask": torch.ones(8, 8, dtype=torch.bool),
        }
        save_file(
            {"model.embed_tokens.weight": rows + shift * torch.eye(20, 8), **content, **ids},
            folder / "model.safetensors",
        )
    result = scan(tmp_path / "base", tmp_path / "tuned")
    assert result.moved.sum() == 8
    for units in ("matrix-rows", "all"):
        with pytest.raises(UserError, match="packed weights are not supported") as refused:
            scan(tmp_path / "base", tmp_path / "tuned", units=units)
        assert next(iter(tensors)) in str(refused.value)
        assert method is None or f"({method})" in str(refused.value)
        assert "`tensors`" in str(refused.value)
    assert scan(tmp_path / "base", tmp_path / "tuned", units="all", tensors="*embed*").moved.sum() == 8
    with pytest.raises(UserError, match="packed weights"):
        scan(
            tmp_path / "base",
            tmp_path / "tuned",
            units="all",
            tensors="*_proj.weight" if "q_proj" in next(iter(tensors)) else "*",
        )


@pytest.mark.parametrize(("name", "kind"), [
    ("model.embed_tokens.weight", torch.int8), ("model.embed_tokens.qweight", torch.int32),
    ("model.embed_tokens.weight", torch.float8_e5m2fnuz), ("lm_head.qweight", torch.int32),
])  # fmt: skip
def test_embeddings_that_are_codes_are_refused_by_name(tmp_path, name, kind):
    rows = {} if "embed" in name else {"model.embed_tokens.weight": torch.randn(20, 4)}
    write(tmp_path / "m", [])
    save_file({**rows, name: torch.zeros(20, 4, dtype=kind)}, tmp_path / "m" / "model.safetensors")
    checkpoint = open_checkpoint(tmp_path / "m")
    with pytest.raises(UserError, match=f"{name} is stored as .* are not supported"):
        _ = checkpoint.head if rows else checkpoint.embedding
    assert len(checkpoint.fingerprint) == 64
    assert name in checkpoint.sections()[0].rows[-1]


@pytest.mark.parametrize(("stem", "kind"), [("weight", torch.uint32), ("qweight", torch.int32)])
def test_a_packed_embedding_with_its_scales_is_refused_by_name(tmp_path, stem, kind):
    write(tmp_path / "m", [], config={"vocab_size": 20})
    parts = {stem: torch.zeros(20, 4, dtype=kind), "scales": torch.ones(20, 1), "biases": torch.ones(20, 1)}
    save_file({f"model.embed_tokens.{n}": t for n, t in parts.items()}, tmp_path / "m" / "model.safetensors")
    with pytest.raises(UserError, match=f"embed_tokens.{stem} is stored as .*: packed weights are not supported"):
        _ = open_checkpoint(tmp_path / "m").embedding


def test_rows_are_from_the_embedding(tmp_path):
    checkpoint = write(tmp_path / "m", ["model.embed_tokens.weight"])
    for wrong in (-1, 20):
        with pytest.raises(IndexError, match="rows must be from 0 to 19"):
            checkpoint.rows(np.array([3, wrong]))
