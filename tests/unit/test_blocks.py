"""A scan leaves every thread count of the process as it was: while it runs, when it ends, and when it fails."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

import numba
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ks_lottery import RowPatch, UserError, open_checkpoint
from ks_lottery.tickets import pairs
from ks_lottery.tickets.blocks import PIECE, _converted, _picked, scan_sources

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ks_lottery import Checkpoint


def stored(folder: Path, weight: torch.Tensor) -> Checkpoint:
    """Store an embedding alone as a checkpoint."""
    folder.mkdir()
    save_file({"embed_tokens.weight": weight}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({}))
    return open_checkpoint(str(folder))


def thread_counts() -> tuple[int, int]:
    """Return what a thread that starts now may use, of torch's threads and of Numba's."""
    counts: list[tuple[int, int]] = []
    thread = threading.Thread(target=lambda: counts.append((torch.get_num_threads(), numba.get_num_threads())))
    thread.start()
    thread.join()
    return counts[0]


@pytest.fixture
def three_threads() -> Iterator[None]:
    """A count that neither the machine nor the scan would choose."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def base(tmp_path) -> Checkpoint:
    return stored(tmp_path / "base", torch.randn(600, 64, generator=torch.Generator().manual_seed(0)).bfloat16())


@pytest.fixture
def tuned(tmp_path, base, request):
    weight = base.rows(np.arange(600)).float()
    moved = weight + 0.3 * torch.randn(600, 64, generator=torch.Generator().manual_seed(1))
    if request.param == "patch":
        return RowPatch(np.arange(3, 600, 2), moved[3::2].clone(), base.describe())
    return stored(tmp_path / "tuned", moved.to(request.param))


@pytest.mark.parametrize("tuned", [torch.bfloat16, torch.float32, torch.float16, "patch"], indirect=True)
def test_thread_counts_stay_as_they_are(base, tuned, three_threads, monkeypatch):
    monkeypatch.setattr(pairs, "BLOCK_BYTES", 4 * 64 * 50)
    before, seen = thread_counts(), []
    scan_sources(base, tuned, tick=lambda done, total: seen.append((done, total, thread_counts())))
    assert [(done, total) for done, total, _ in seen] == [(n, 12) for n in range(1, 13)]
    assert before[0] == 3
    assert {counts for *_, counts in seen} | {thread_counts()} == {before}


def test_two_scans_at_once_leave_the_thread_count_as_it_is(base, three_threads):
    """The second begins while the first runs, and ends after it."""
    second = threading.Thread(target=lambda: scan_sources(base, base))

    def begin_the_other(done: int, total: int) -> None:
        second.start()

    scan_sources(base, base, tick=begin_the_other)
    second.join()
    assert thread_counts()[0] == torch.get_num_threads() == 3


def test_thread_counts_stay_as_they_are_after_an_error(base, tmp_path, three_threads):
    weight = base.rows(np.arange(600)).clone()
    weight[7, 3] = torch.nan
    seen: list[int] = []

    def look(done: int, total: int) -> None:
        seen.append(thread_counts()[0])
        raise KeyboardInterrupt

    with pytest.raises(UserError, match="NaN in row 7"):
        scan_sources(base, stored(tmp_path / "nan", weight))
    with pytest.raises(KeyboardInterrupt):
        scan_sources(base, base, tick=look)
    assert seen == [3]
    assert thread_counts()[0] == torch.get_num_threads() == 3


@pytest.mark.parametrize("to", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn])
def test_what_is_converted_in_pieces_is_what_torch_converts(kind, to):
    rows = PIECE // 64 + 7
    tensor = torch.randn(rows, 64, generator=torch.Generator().manual_seed(0)).to(kind)
    assert torch.equal(_converted(tensor, to).double(), tensor.to(to).double())
    picked = np.array([0, 5, rows - 1])
    assert torch.equal(_picked(tensor, picked).double(), tensor.double()[picked])
    assert _picked(tensor, picked).dtype == kind
