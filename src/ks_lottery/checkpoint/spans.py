"""The stored numbers of a tensor, in a file or in memory: some of its units, some of its rows, or the digest of its bytes."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import torch

from ks_lottery.checkpoint.file_bytes import read_at, read_spans

if TYPE_CHECKING:
    import numpy.typing as npt

    from ks_lottery.checkpoint.headers import TensorEntry
    from ks_lottery.checkpoint.tensors import Units

PIECE = 1 << 22
"""Bytes that are read at a time for a digest."""


def as_tensor(raw: npt.NDArray[np.uint8], dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    """Return bytes as a tensor, which shares them."""
    if not len(raw):  # torch does not view what is empty
        return torch.empty(shape, dtype=dtype)
    return torch.from_numpy(raw).view(dtype).reshape(shape)


def read_units(entry: TensorEntry, unit: Units, start: int, stop: int) -> torch.Tensor:
    """Return units `start` to `stop` as they are stored, shape (stop - start, width)."""
    size = entry.dtype.itemsize
    stop = min(stop, unit.count)
    count = max(stop - start, 0)
    if not unit.transposed:
        row = unit.width * size
        raw = read_at(entry.file, entry.start + start * row, count * row)
        return as_tensor(raw, entry.dtype, (count, unit.width))
    # A unit is a column here: of each stored row, the part of these units is read.
    spans = [(entry.start + (line * unit.count + start) * size, count * size) for line in range(unit.width)]
    raw = read_spans(entry.file, spans).reshape(unit.width, count, size).transpose(1, 0, 2)
    return as_tensor(np.ascontiguousarray(raw).reshape(-1), entry.dtype, (count, unit.width))


def read_rows(entry: TensorEntry, ids: npt.NDArray[np.int64]) -> torch.Tensor:
    """Return rows of a matrix as they are stored, shape (K, d); only their bytes are read.

    Parameters
    ----------
    ids
        Rows, shape (K,), in any order, each from 0 to V - 1.
    """
    count, width = entry.shape[0], entry.shape[1]
    if not len(ids):
        return torch.empty((0, width), dtype=entry.dtype)
    if not 0 <= int(ids.min()) <= int(ids.max()) < count:
        raise IndexError(f"rows must be from 0 to {count - 1}")
    row = width * entry.dtype.itemsize
    wanted, places = np.unique(ids, return_inverse=True)
    # Rows that follow each other are read in one piece.
    breaks = np.flatnonzero(np.diff(wanted) != 1) + 1
    runs = np.split(wanted, breaks)
    raw = read_spans(entry.file, [(entry.start + int(run[0]) * row, len(run) * row) for run in runs])
    table = raw.reshape(len(wanted), row)
    picked = table if np.array_equal(wanted, ids) else table[places]
    return as_tensor(picked.reshape(-1), entry.dtype, (len(ids), width))


def digest_span(entry: TensorEntry) -> str:
    """Return the SHA-256 of the bytes of a tensor."""
    digest = hashlib.sha256()
    for start in range(entry.start, entry.stop, PIECE):
        digest.update(read_at(entry.file, start, min(PIECE, entry.stop - start)).data)
    return digest.hexdigest()


def units_of(value: torch.Tensor, unit: Units, start: int, stop: int) -> torch.Tensor:
    """Return a copy of units `start` to `stop` of a tensor in memory, on the CPU, in its own type."""
    part = value.T[start:stop] if unit.transposed else value.reshape(unit.count, unit.width)[start:stop]
    if not len(part):
        return torch.empty((0, unit.width), dtype=value.dtype)
    # By NumPy, which copies in the calling thread alone.
    raw = part.cpu().contiguous().view(torch.uint8).numpy()
    return torch.from_numpy(raw.copy()).view(value.dtype)


def digest_values(value: torch.Tensor) -> str:
    """Return the SHA-256 of the bytes of a tensor in memory."""
    flat = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.sha256(flat.numpy().data).hexdigest()
