"""In which type two checkpoints are compared: what rounding hides, and a full tuning of ours over its base."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import ks_2samp

from ks_lottery import UserError, open_checkpoint, scan
from ks_lottery.cli.main import main


def norm(folder, weight):
    folder.mkdir()
    save_file({"norm.weight": weight}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({}))
    return open_checkpoint(str(folder))


def test_rounding_hides_what_a_layer_norm_moved(tmp_path):
    """Near 0.4 bfloat16 has steps of 0.002: a move of 8e-4 is rounded away in all but a few of 4,096 coordinates."""
    weight = (0.4 + 0.05 * torch.randn(4096, generator=torch.Generator().manual_seed(0))).bfloat16()
    moved = weight.float() + 8e-4
    base, tuned = norm(tmp_path / "base", weight), norm(tmp_path / "tuned", moved)
    found = {name: scan(base, tuned, units="all", compare_as=name) for name in ("float32", "coarser")}
    assert round(found["float32"].statistics[0], 4) == 0.0186
    assert round(found["coarser"].statistics[0], 4) == 0.0002
    assert found["float32"].statistics[0] == ks_2samp(weight.float().numpy(), moved.numpy()).statistic
    assert (
        found["coarser"].statistics[0] == ks_2samp(weight.float().numpy(), moved.bfloat16().float().numpy()).statistic
    )
    assert scan(base, tuned, units="all").parts == found["coarser"].parts  # the default, for what stands alone
    with pytest.raises(UserError, match="compare_as float64 is not known; there are coarser, float32"):
        scan(base, tuned, units="all", compare_as="float64")


@pytest.fixture(scope="module")
def full(tied_model, text_file, tmp_path_factory):
    """A full tuning by the command, over a base of 16 bits."""
    folder = tmp_path_factory.mktemp("full")
    shutil.copytree(tied_model, folder / "base")
    file = folder / "base" / "model.safetensors"
    save_file({name: tensor.bfloat16() for name, tensor in load_file(file).items()}, file, metadata={"format": "pt"})
    flags = ["--limit", "8", "--batch-size", "4", "--epochs", "1", "--learning-rate", "1e-4", "--dtype", "float32"]
    call = ["tune", str(folder / "base"), "--method", "full", "--train", str(text_file), "--out", str(folder / "tuned")]
    assert main([*call, *flags]) == 0
    return folder


def compared_as(base, tuned, **more):
    return {part.compared_as for part in scan(base, tuned, units="all", **more).parts}


def test_a_full_tuning_is_compared_with_its_base_in_float32(full):
    assert compared_as(full / "base", full / "tuned") == {"float32"}
    assert compared_as(full / "base", full / "tuned", compare_as="coarser") == {"bfloat16"}
    exact = scan(full / "base", full / "tuned", units="all")
    assert exact.moved.sum() > 2 * scan(full / "base", full / "tuned", units="all", compare_as="coarser").moved.sum()


def test_a_full_tuning_is_compared_with_another_base_as_any_checkpoint(full, tmp_path):
    shutil.copytree(full / "base", tmp_path / "other")
    tensors = load_file(tmp_path / "other" / "model.safetensors")
    tensors["model.norm.weight"] += 1
    save_file(tensors, tmp_path / "other" / "model.safetensors", metadata={"format": "pt"})
    assert compared_as(tmp_path / "other", full / "tuned") == {"bfloat16"}
    shutil.copytree(full / "tuned", tmp_path / "bare")
    (tmp_path / "bare" / "manifest.json").unlink()
    assert compared_as(full / "base", tmp_path / "bare") == {"bfloat16"}
    (tmp_path / "bare" / "manifest.json").write_text('{"kind": "something else"}')
    assert compared_as(full / "base", tmp_path / "bare") == {"bfloat16"}


def test_the_flag_says_in_which_type(full, capfd):
    assert main(["scan", str(full / "base"), str(full / "tuned"), "--compare-as", "coarser"]) == 0
    assert "compared as bfloat16" in capfd.readouterr().out
    assert main(["scan", str(full / "base"), str(full / "tuned")]) == 0
    assert "compared as float32" in capfd.readouterr().out
