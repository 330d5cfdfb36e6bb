"""Tensors that are not of floats: no test compares them, but whether they are the same bytes is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ks_lottery.checkpoint.headers import TensorEntry
from ks_lottery.tickets.renaming import BUFFERS, MASK

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ks_lottery.checkpoint.tensors import Source

PIECE = 16 << 20
"""Bytes that are compared at a time."""


def differing_integers(base: Source, tuned: Source) -> list[str]:
    """Return the tensors of integers that are not the same in both, or that one side alone has.

    An adapter or a patch changes none, and has none of its own.
    """
    before, after = _integers(base), _integers(tuned)
    if before is None or after is None:
        return []
    names = sorted(before.keys() | after.keys())
    return [name for name in names if not (name in before and name in after and _same(before[name], after[name]))]


def _integers(source: Source) -> dict[str, Any] | None:
    """Return what is stored of each such tensor; None for a source that is computed."""
    tensors: Mapping[str, Any] | None = getattr(source, "tensors", None)
    if tensors is None:
        return None
    values: Mapping[str, Any] = getattr(source, "values", None) or tensors
    return {
        name: values[name]
        for name, tensor in tensors.items()
        if not tensor.dtype.is_floating_point and not BUFFERS.search(name) and not MASK.search(name)
    }


def _same(one: Any, other: Any) -> bool:
    if one.dtype != other.dtype or tuple(one.shape) != tuple(other.shape):
        return False
    first, second = _bytes(one), _bytes(other)
    return len(first) == len(second) and all(
        np.array_equal(first[start : start + PIECE], second[start : start + PIECE])
        for start in range(0, len(first), PIECE)
    )


def _bytes(stored: Any) -> Any:
    if not isinstance(stored, TensorEntry):
        return stored.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    size = stored.stop - stored.start
    return (
        np.memmap(stored.file, np.uint8, mode="r", offset=stored.start, shape=(size,))
        if size
        else np.empty(0, np.uint8)
    )
