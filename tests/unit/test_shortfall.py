"""The advice of a scan without power is what scaling the moves and testing again shows, and not what D promises."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.stats import ks_2samp

from ks_lottery import RowPatch, Scan, open_checkpoint, scan
from ks_lottery.tickets.scan_sections import sentences
from ks_lottery.tickets.shortfall import STEP

if TYPE_CHECKING:
    from pathlib import Path

    from ks_lottery import Checkpoint

ROWS, WIDTH, ALPHA = 150, 96, 0.05


def stored(folder: Path, **tensors: torch.Tensor) -> Checkpoint:
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({}))
    return open_checkpoint(str(folder))


def embedding(folder: Path, weight: torch.Tensor) -> Checkpoint:
    return stored(folder, **{"embed_tokens.weight": weight})


def pair(
    folder: Path, dtype: torch.dtype, size: float = 0.02
) -> tuple[Checkpoint, Checkpoint, torch.Tensor, torch.Tensor]:
    """Rows of many spreads, each moved as Adam moves them: every coordinate about as far, in a random direction."""
    draw = torch.Generator().manual_seed(3)
    spread = torch.linspace(0.5, 2, ROWS)[torch.randperm(ROWS, generator=draw)].unsqueeze(1)
    before = (spread * torch.randn(ROWS, WIDTH, generator=draw)).to(dtype)
    step = size * (1 + 0.3 * torch.randn(ROWS, WIDTH, generator=draw)) * torch.rand(ROWS, 1, generator=draw)
    signs = torch.where(torch.rand(ROWS, WIDTH, generator=draw) < 0.7, 1.0, -1.0)
    after = (before.float() + step * signs).to(dtype)
    return embedding(folder / "base", before), embedding(folder / "tuned", after), before, after


def passes(before: torch.Tensor, after: torch.Tensor, factor: float, critical: float) -> bool:
    """Say whether any row of all has a D of p < ALPHA with moves so many times as large, by SciPy."""
    start = before.double()
    scaled = (start + factor * (after.double() - start)).float().to(before.dtype)
    rows = zip(before.float().numpy(), scaled.float().numpy(), strict=True)
    return any(ks_2samp(x, y, method="asymp").statistic >= critical - 1e-9 for x, y in rows)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_factor_is_the_smallest_at_which_any_row_of_all_passes(tmp_path, dtype):
    base, tuned, before, after = pair(tmp_path, dtype)
    found = scan(base, tuned)
    power = found.power(ALPHA)
    assert power["rows_passing"] == 0
    factor, critical = power["needed"], power["critical_statistic"]
    assert 2 < factor < 100
    assert passes(before, after, factor, critical)
    grid, tested = 1.0, 0
    while (grid := grid * STEP) < factor * 0.998:  # no row of all passes earlier, also none whose move was not scaled
        assert not passes(before, after, grid, critical), grid
        tested += 1
    assert tested > 10
    in_proportion = power["critical_statistic"] / power["largest_statistic"]
    assert not passes(before, after, in_proportion, critical)  # what was printed before
    assert factor > 1.5 * in_proportion


def test_a_saved_scan_says_it_for_its_alpha_and_a_scan_without_it_says_nothing(tmp_path):
    base, tuned, *_ = pair(tmp_path, torch.float32)
    found = scan(base, tuned, alpha=0.01)
    found.save(tmp_path / "scan.parquet")
    again = Scan.open(tmp_path / "scan.parquet")
    assert again.power(0.01)["needed"] == found.power(0.01)["needed"] > scan(base, tuned).power(0.05)["needed"]
    said = " ".join(sentences(again.summary(0.01)))
    named = float(said.partition("If they were ")[2].partition(" times as large")[0])
    assert found.power(0.01)["needed"] <= named <= 1.1 * found.power(0.01)["needed"]  # rounded up: at it a unit passes
    assert "lr x steps" not in said
    for silent in (again.power(0.05), again.power(0.01, "holm")):
        assert (silent["measured_shortfall"], silent["needed"]) == (False, None)
    assert sentences(again.summary(0.05))[-1] == "Nothing passes p < 0.05."


def test_nothing_is_measured_where_a_row_passes_or_none_moved(tmp_path):
    base, tuned, *_ = pair(tmp_path, torch.float32, size=4.0)
    assert len(scan(base, tuned).passing(0.05))
    for found in (scan(base, tuned), scan(base, base), scan(base, tuned, alpha=0)):
        assert "shortfall" not in found.settings


def test_where_no_factor_is_enough_that_is_said(tmp_path):
    """One coordinate of each row moved: D is 1/d however far it goes."""
    weight = torch.randn(50, WIDTH, generator=torch.Generator().manual_seed(0))
    moved = weight.clone()
    moved[:, 3] += 0.1
    found = scan(embedding(tmp_path / "base", weight), embedding(tmp_path / "tuned", moved))
    assert found.power(0.05)["measured_shortfall"]
    assert found.power(0.05)["needed"] is None
    assert "even 1,000 times as large, none would pass" in sentences(found.summary(0.05))[-1]


def test_a_patch_is_measured_like_the_checkpoint_it_makes(tmp_path):
    base, tuned, _, after = pair(tmp_path, torch.float32)
    patch = RowPatch(np.arange(ROWS), after, base.describe())
    assert scan(base, patch).settings["shortfall"] == scan(base, tuned).settings["shortfall"]


def test_units_of_several_widths_are_measured_together_and_not_for_one_tensor(tmp_path):
    draw = torch.Generator().manual_seed(0)
    before = {
        "embed_tokens.weight": torch.randn(20, 64, generator=draw),
        "norm.weight": torch.randn(300, generator=draw),
    }
    after = {name: tensor + 0.01 for name, tensor in before.items()}
    found = scan(stored(tmp_path / "base", **before), stored(tmp_path / "tuned", **after), units="all")
    factor = found.settings["shortfall"]["factor"]
    alone = scan(str(tmp_path / "base"), str(tmp_path / "tuned"), units="all", tensors="norm.weight")
    assert factor <= alone.settings["shortfall"]["factor"] * 1.002
    assert found.only("norm.weight").power(0.05)["measured_shortfall"] is False
    assert alone.only("norm.weight").power(0.05)["needed"] == alone.settings["shortfall"]["factor"]
