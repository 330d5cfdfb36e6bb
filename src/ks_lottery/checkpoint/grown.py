"""A checkpoint with rows for new tokens behind its own, of which nothing is written or copied."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ks_lottery.checkpoint.memory import MemoryCheckpoint
from ks_lottery.checkpoint.reader import Checkpoint

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from ks_lottery.checkpoint.added_tokens import AddedTokens

BLOCK = 1 << 14
"""Rows that are read at a time."""


class GrownCheckpoint(Checkpoint):
    """A checkpoint whose vocabulary has tokens of a patch too.

    Name, fingerprint, tensors and units are the base's, and so is every row that it has. A row beyond them is the mean of all
    rows of its side, unless `start` has another value.

    Attributes
    ----------
    base
        The checkpoint without them.
    added
        The tokens.
    start
        By side, the values from which the rows of the tokens start, shape (K, d), float32; empty for none.
    """

    base: Checkpoint
    added: AddedTokens
    start: Mapping[str, torch.Tensor]

    @property
    def vocabulary(self) -> int:
        """Number of rows, those of new tokens included."""
        return self.added.rows

    def rows(self, ids: npt.NDArray[np.int64], side: str = "input") -> torch.Tensor:
        """Return rows as `Checkpoint.rows` does, those of new tokens too."""
        side = "output" if side == "output" else "input"
        stored = np.minimum(ids, self.added.base_rows - 1)
        values = super().rows(stored, side).clone()
        beyond = ids >= self.added.base_rows
        if beyond.any():
            values[torch.from_numpy(beyond)] = self._means[side]
        if side in self.start:
            of_token = {token: place for place, token in enumerate(self.added.ids)}
            for place, token in enumerate(ids.tolist()):
                if token in of_token:
                    values[place] = self.start[side][of_token[token]]
        return values

    @cached_property
    def _means(self) -> dict[str, torch.Tensor]:
        return {side: mean_row(self, side) for side in ("input", "output")}


class GrownMemoryCheckpoint(GrownCheckpoint, MemoryCheckpoint):
    """The same of a model in memory."""


def grown(base: Checkpoint, added: AddedTokens, start: Mapping[str, torch.Tensor] | None = None) -> GrownCheckpoint:
    """Return a checkpoint with rows for new tokens."""
    kind: Any = GrownMemoryCheckpoint if isinstance(base, MemoryCheckpoint) else GrownCheckpoint
    copy = object.__new__(kind)
    copy.__dict__.update({name: value for name, value in base.__dict__.items() if name != "_means"})
    copy.__dict__.update(base=base, added=added, start=dict(start or {}))
    return copy


def mean_row(base: Checkpoint, side: str) -> torch.Tensor:
    """Return the mean of all rows of one side of a checkpoint, shape (d,), float32, summed in float64."""
    return mean_of_matrix(base, base.head if side == "output" else base.embedding)


def mean_of_matrix(base: Checkpoint, tensor: str) -> torch.Tensor:
    """Return the same of a matrix by its name."""
    count = base.units[tensor].count
    total = torch.zeros(base.width, dtype=torch.float64)
    for first in range(0, count, BLOCK):
        total += base.block(tensor, first, min(first + BLOCK, count)).double().sum(dim=0)
    return (total / count).float()
