"""The scan against scipy and plain NumPy, row by row."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import ks_2samp

from ks_lottery import RowPatch, Scan, UserError, open_checkpoint, scan


@pytest.fixture(scope="module")
def base(tied_model):
    return open_checkpoint(str(tied_model))


def moved(folder, source, change, dtype=torch.float32):
    shutil.copytree(source, folder)
    tensors = load_file(source / "model.safetensors")
    change(tensors["model.embed_tokens.weight"])
    save_file({name: tensor.to(dtype) for name, tensor in tensors.items()}, folder / "model.safetensors")
    return open_checkpoint(str(folder))


def some_rows(weight: torch.Tensor) -> None:
    noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(2))
    weight[::3] += 0.4 * noise[::3]
    weight[9] *= 3


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_two_checkpoints(base, tied_model, tmp_path, dtype):
    """Stored apart in two types: both are rounded to the coarser one."""
    tuned = moved(tmp_path / "tuned", tied_model, some_rows, dtype)
    found = scan(base, tuned)
    coarser = torch.float32 if dtype == torch.float64 else dtype
    assert found.parts[0].compared_as == str(coarser).removeprefix("torch.")
    every = np.arange(384)
    before, after = (side.rows(every).to(coarser).double().numpy() for side in (base, tuned))
    for row in range(384):
        wanted = ks_2samp(before[row], after[row])
        assert found.counts[row] == round(wanted.statistic * 32)
        assert found.pvalues[row] == pytest.approx(wanted.pvalue, rel=1e-9)
    step = np.abs(after - before)
    np.testing.assert_allclose(found.distance, np.linalg.norm(step, axis=1))
    np.testing.assert_array_equal(found.largest, step.max(axis=1))
    np.testing.assert_array_equal(found.moved, (before != after).sum(axis=1))
    np.testing.assert_allclose(found.absolute, step.mean(axis=1))
    deviation = before.std(axis=1)
    assert deviation[0] == 0  # the padding row is all zeros, and was moved
    assert found.spread[0] == np.inf
    np.testing.assert_allclose(found.spread[1:], step.mean(axis=1)[1:] / deviation[1:], rtol=1e-6)
    assert found.power(0.05)["largest_spread"] == found.spread[1:].max()


def test_a_patch_is_scanned_like_the_checkpoint_it_makes(base, tied_model, tmp_path):
    tuned = moved(tmp_path / "tuned", tied_model, some_rows)
    ids = np.flatnonzero((tuned.rows(np.arange(384)) != base.rows(np.arange(384))).any(dim=1).numpy())
    found = scan(base, RowPatch(ids, tuned.rows(ids), base.describe()))
    whole = scan(base, tuned)
    for name in (
        "counts",
        "moved",
        "distance",
        "largest",
        "spread",
        "cos",
        "absolute",
        "absolute_signed",
        "relative",
        "ratio",
        "kl",
    ):
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name), name)


def test_nothing_changed(base, tied_model):
    found = scan(base, open_checkpoint(str(tied_model)))
    assert not found.counts.any()
    assert (found.pvalues == 1).all()


def test_a_scan_survives_the_disk(base, tied_model, tmp_path):
    found = scan(base, moved(tmp_path / "tuned", tied_model, some_rows))
    found.save(tmp_path / "scan.parquet", [str(i) for i in range(384)])
    again = Scan.open(tmp_path / "scan.parquet")
    np.testing.assert_array_equal(again.counts, found.counts)
    np.testing.assert_array_equal(again.log_pvalues, found.log_pvalues)
    assert again.width == found.width
    assert dict(again.made_from) == dict(found.made_from)
    (tmp_path / "scan.parquet").write_bytes((tmp_path / "scan.parquet").read_bytes()[:-9])
    with pytest.raises(UserError, match="is not a Parquet file, or it is damaged"):
        Scan.open(tmp_path / "scan.parquet")


def test_what_cannot_be_compared(base, tied_model, tmp_path):
    def nan(weight):
        weight[7, 3] = torch.nan

    with pytest.raises(UserError, match="NaN in row 7"):
        scan(base, moved(tmp_path / "nan", tied_model, nan))
    narrow = tmp_path / "narrow"
    narrow.mkdir()
    save_file({"embed_tokens.weight": torch.zeros(384, 16)}, narrow / "model.safetensors")
    (narrow / "config.json").write_text(json.dumps({}))
    with pytest.raises(UserError, match="384 x 32.*384 x 16"):
        scan(base, open_checkpoint(str(narrow)))
    with pytest.raises(UserError, match="belongs"):
        scan(base, RowPatch(np.array([1]), torch.zeros(1, 32), {"name": "x", "fingerprint": "0" * 64}))
