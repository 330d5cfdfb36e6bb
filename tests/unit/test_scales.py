"""Weights in eight bits with scales: their values are those that transformers and a definition written out give."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from transformers.integrations.finegrained_fp8 import Fp8Dequantize

from ks_lottery import UserError, open_checkpoint, scan
from ks_lottery.models.sources import open_source

FORMAT = {"format": "pt"}
E4M3 = torch.float8_e4m3fn


def write(folder, tensors, **config):
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata=FORMAT)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", **config}))
    return open_checkpoint(folder)


def by_definition(weight: torch.Tensor, scales: torch.Tensor, blocks: tuple[int, ...]) -> torch.Tensor:
    """Multiply each number with the scale of its block, one by one."""
    result = torch.empty(weight.shape)
    for place in np.ndindex(*weight.shape):
        result[place] = (
            weight[place].float() * scales[tuple(i // b for i, b in zip(place, blocks, strict=True))].float()
        )
    return result


def random_codes(*shape: int) -> torch.Tensor:
    return (torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 50).to(E4M3)


def random_scales(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(1)) + 0.5).to(dtype)


@pytest.mark.parametrize("suffix", ["weight_scale_inv", "weight_scale"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e8m0fnu, torch.uint8])
def test_blocks_as_transformers_dequantises_them(tmp_path, suffix, dtype):
    weight = random_codes(24, 32)
    scales = random_scales(3, 2)
    scales = torch.tensor([[120, 127], [128, 130], [1, 126]], dtype=dtype) if dtype == torch.uint8 else scales.to(dtype)
    checkpoint = write(tmp_path / "m", {"a.weight": weight, f"a.{suffix}": scales}, torch_dtype="float32")
    wanted = Fp8Dequantize(None)._dequantize_one(weight, scales, torch.float32)
    assert torch.equal(checkpoint.block("a.weight", 0, 24), wanted)
    assert torch.equal(checkpoint.block("a.weight", 7, 19), wanted[7:19])
    assert list(checkpoint.units) == ["a.weight"]
    assert checkpoint.units["a.weight"].dtype == torch.float32


@pytest.mark.parametrize(("config", "wanted"), [
    ({"torch_dtype": "bfloat16"}, torch.bfloat16), ({"dtype": "float16"}, torch.float16), ({}, torch.float32),
])  # fmt: skip
def test_values_have_the_type_of_the_model(tmp_path, config, wanted):
    weight, scales = random_codes(4, 6), random_scales(1, 1)
    checkpoint = write(tmp_path / "m", {"a.weight": weight, "a.weight_scale": scales}, **config)
    values = checkpoint.block("a.weight", 0, 4)
    assert checkpoint.units["a.weight"].dtype == values.dtype == wanted
    assert torch.equal(values, (weight.float() * scales).to(wanted))


@pytest.mark.parametrize(("shape", "grid", "block", "config"), [
    ((5, 7), (3, 2), (2, 4), {"weight_block_size": [2, 4]}),  # blocks that do not divide the matrix
    ((5, 7), (3, 2), (2, 4), {"config_groups": {"g": {"weights": {"block_structure": [2, 4]}}}}),
    ((4, 6), (4, 1), (1, 6), {}),  # a scale a row
    ((4, 6), (4,), (1, 6), {}),
    ((4, 6), (), (4, 6), {}),  # a scale a matrix
    ((4, 6), (1,), (4, 6), {"weight_block_size": [2, 2]}),
    ((3, 4, 6), (3, 1, 6), (1, 4, 1), {}),  # experts
    ((3, 4, 6), (3,), (1, 4, 6), {}),
    ((3, 5, 6), (3, 3, 2), (1, 2, 4), {"weight_block_size": [2, 4]}),
])  # fmt: skip
def test_every_layout_of_scales(tmp_path, shape, grid, block, config):
    weight, scales = random_codes(*shape), random_scales(*grid)
    tensors = {"x.w_proj": weight, "x.w_proj_scale": scales}
    checkpoint = write(tmp_path / "m", tensors, quantization_config={"quant_method": "fp8", **config})
    whole = (
        scales.reshape(*grid, *(1 for _ in shape[len(grid) :]))
        if scales.numel() > 1
        else scales.reshape([1] * len(shape))
    )
    wanted = by_definition(weight, whole, block).reshape(-1, shape[-1])
    assert torch.equal(checkpoint.block("x.w_proj", 0, len(wanted)), wanted)
    for row in range(len(wanted)):
        assert torch.equal(checkpoint.block("x.w_proj", row, row + 1), wanted[row : row + 1])


def test_a_scan_compares_values_and_not_codes(untied_model, tmp_path):
    """The same model in bfloat16, in eight bits, and in eight bits multiplied out by hand."""
    plain = {name: t.to(torch.bfloat16) for name, t in load_file(untied_model / "model.safetensors").items()}
    codes, values = dict(plain), dict(plain)
    for name, tensor in plain.items():
        if name.endswith("proj.weight"):
            scale = tensor.abs().max().float() / 448
            codes[name] = (tensor.float() / scale).to(E4M3)
            codes[f"{name}_scale_inv"] = scale.reshape(1, 1)
            values[name] = (codes[name].float() * scale).to(torch.bfloat16)
    about = {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}
    folders = {}
    for name, tensors in (("plain", plain), ("codes", codes), ("values", values)):
        folders[name] = shutil.copytree(untied_model, tmp_path / name)
        save_file(tensors, folders[name] / "model.safetensors", metadata=FORMAT)
        config = {**json.loads((untied_model / "config.json").read_text()), "dtype": "bfloat16"}
        config |= {"quantization_config": about} if name == "codes" else {}
        (folders[name] / "config.json").write_text(json.dumps(config))
    result = scan(folders["plain"], folders["codes"], units="matrix-rows")
    assert np.array_equal(result.counts, scan(folders["plain"], folders["values"], units="matrix-rows").counts)
    assert result.statistics.max() == 0.125
    assert result.settings["only_in_tuned"] == []
    assert scan(folders["values"], folders["codes"], units="all").moved.sum() == 0
    from transformers import FineGrainedFP8Config

    loaded = AutoModelForCausalLM.from_pretrained(
        folders["codes"], quantization_config=FineGrainedFP8Config(dequantize=True), dtype=torch.bfloat16
    )
    checkpoint = open_checkpoint(folders["codes"])
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(
            checkpoint.block(name, 0, len(tensor)), tensor.reshape(-1, tensor.shape[-1])[: len(tensor)]
        ), name


def test_rows_of_an_embedding_with_scales(tmp_path):
    weight, scales = random_codes(9, 4), random_scales(9, 1)
    checkpoint = write(tmp_path / "m", {"embed_tokens.weight": weight, "embed_tokens.weight_scale": scales})
    wanted = weight.float() * scales
    assert torch.equal(checkpoint.rows(np.array([8, 1, 1])), wanted[[8, 1, 1]])
    assert checkpoint.rows(np.array([], dtype=np.int64)).shape == (0, 4)


def test_scales_in_a_pickle(tmp_path):
    weight, scales = random_codes(9, 4), random_scales(9, 1)
    torch.save({"embed_tokens.weight": weight, "embed_tokens.weight_scale": scales}, tmp_path / "pytorch_model.bin")
    assert torch.equal(open_source(str(tmp_path)).block("embed_tokens.weight", 2, 5), (weight.float() * scales)[2:5])


def test_scales_of_activations_change_no_weight(tmp_path):
    weight = random_codes(4, 6)
    tensors = {"a.weight": weight, "a.weight_scale": torch.tensor([2.0]), "a.input_scale": torch.tensor([3.0])}
    checkpoint = write(tmp_path / "m", tensors, torch_dtype="float32")
    assert torch.equal(checkpoint.block("a.weight", 0, 4), weight.float() * 2)
    assert list(checkpoint.units) == ["a.weight"]


def test_numbers_without_scales_are_values(tmp_path):
    weight = random_codes(4, 6)
    checkpoint = write(tmp_path / "m", {"a.weight": weight})
    assert checkpoint.block("a.weight", 0, 4).view(torch.uint8).tolist() == weight.view(torch.uint8).tolist()


@pytest.mark.parametrize(("more", "problem"), [
    ({}, "has no scales"),
    ({"a.weight_scale": torch.ones(3, 1)}, "has scales of 3 x 1, which do not fit its 4 x 6"),
    ({"a.weight_scale": torch.ones(1, 1, 2)}, "do not fit"),
    ({"a.weight_scale": torch.ones(4, 0)}, "do not fit"),
    ({"a.weight_scale": torch.ones(4, dtype=torch.int64)}, "do not fit"),
    ({"a.scale": torch.ones(4, 1)}, "has a.scale, which is not understood"),
    ({"a.weight_scale": torch.ones(4, 1), "a.weight_zero_point": torch.ones(4, 1)}, "zero_point, which is not understood"),
    ({"a.weight_scale": torch.ones(4, 1), "a.weight_scale_inv": torch.ones(4, 1)}, "which is not understood"),
])  # fmt: skip
def test_what_is_not_understood_is_refused_when_it_is_compared(tmp_path, more, problem):
    rows = torch.randn(9, 4)
    tensors = {"a.weight": random_codes(4, 6), "model.embed_tokens.weight": rows, **more}
    write(tmp_path / "m", tensors, quantization_config={"quant_method": "fp8"})
    assert scan(tmp_path / "m", tmp_path / "m").moved.sum() == 0  # the embedding is plain
    with pytest.raises(UserError, match=r"a\.weight \(one of 1\) is quantised \(fp8\) and ") as refused:
        scan(tmp_path / "m", tmp_path / "m", units="matrix-rows")
    assert problem in str(refused.value)
