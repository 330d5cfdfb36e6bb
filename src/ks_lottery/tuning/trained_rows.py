"""The trained rows of a model's input embedding while it trains: which they are, their values, and those of its base."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from ks_lottery.checkpoint.patch import RowPatch
from ks_lottery.errors import UserError
from ks_lottery.models.language_model import LabelledLanguageModel
from ks_lottery.models.rows import RowEmbedding
from ks_lottery.models.sources import open_source

if TYPE_CHECKING:
    import numpy.typing as npt

BLOCK_ROWS = 4096
"""Rows of a base checkpoint that are read at a time."""


@dataclass(frozen=True)
class TrainedRows:
    """Rows of an input embedding that training can change.

    Parameters
    ----------
    parameter
        Their values, shape (K, d), any float type; a DTensor where the model is sharded.
    ids
        Which rows they are, shape (K,), ascending.
    vocabulary
        Rows V of the whole embedding.
    """

    parameter: torch.Tensor
    ids: npt.NDArray[np.int64]
    vocabulary: int

    @classmethod
    def of(cls, model: Any) -> TrainedRows:
        """Find the trained rows of a model: all of a plain embedding, or those of a row module.

        Raises
        ------
        UserError
            When the model has no input embedding, it is of a kind that keeps its rows elsewhere, it is frozen, or its values
            are sharded in another way than as a DTensor.
        """
        language_model = model.lm if isinstance(model, LabelledLanguageModel) else model
        try:
            embedding = language_model.get_input_embeddings()
        except (AttributeError, NotImplementedError) as error:
            raise UserError(f"a {type(model).__name__} has no input embedding: give a causal language model") from error
        if isinstance(embedding, RowEmbedding):
            ids = torch.nonzero(embedding.slot >= 0).flatten().cpu().numpy()
            return cls(_checked(embedding.rows), ids, len(embedding.slot))
        if not isinstance(embedding, nn.Embedding):
            raise UserError(
                f"the input embedding is a {type(embedding).__name__}, whose rows cannot be watched while it trains: "
                "leave KSCallback out and scan what was trained"
            )
        count = embedding.num_embeddings
        return cls(_checked(embedding.weight), np.arange(count, dtype=np.int64), count)

    def values(self) -> torch.Tensor:
        """Return the values now, shape (K, d), on their device; a DTensor is gathered, which all processes must ask for."""
        values: Any = self.parameter.detach()
        return values.full_tensor() if hasattr(values, "full_tensor") else values

    def values_in(self, base: Any) -> torch.Tensor:
        """Read the same rows of a checkpoint, rounded to the type that they are trained in, shape (K, d), on the CPU.

        Raises
        ------
        UserError
            When the base cannot be read, is no model, or its embedding has another shape.
        """
        source = open_source(base)
        if isinstance(source, RowPatch):
            raise UserError(f"base {base} is a row patch: give the model that the training was started from")
        unit, width = source.units[source.embedding], int(self.parameter.shape[1])
        if (unit.count, unit.width) != (self.vocabulary, width):
            raise UserError(
                f"base {source.name} has an embedding of {unit.count:,} x {unit.width:,}, but the trained one is "
                f"{self.vocabulary:,} x {width:,}: give the model that the training was started from"
            )
        rows = torch.empty((len(self.ids), width), dtype=self.parameter.dtype)
        for start in range(0, unit.count, BLOCK_ROWS):
            stop = min(start + BLOCK_ROWS, unit.count)
            low, high = (int(place) for place in np.searchsorted(self.ids, [start, stop]))
            if low < high:
                picked = torch.from_numpy(self.ids[low:high] - start)
                rows[low:high] = source.block(source.embedding, start, stop)[picked].to(rows.dtype)
        return rows


def _checked(parameter: torch.Tensor) -> torch.Tensor:
    if not parameter.requires_grad:
        raise UserError(
            "the input embedding is frozen, so no row can become a ticket: train it, or leave KSCallback out"
        )
    if parameter.ndim != 2 or parameter.shape[1] == 0:
        raise UserError(
            f"the input embedding is sharded to shape {tuple(parameter.shape)}, which cannot be gathered here: shard it "
            "with FSDP 2, or leave KSCallback out"
        )
    return parameter
