"""The input embedding: looked-up rows of a set come from a small matrix that can be trained, all others from the frozen one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from ks_lottery.checkpoint.patch import Side


def master(values: torch.Tensor, weight: torch.Tensor) -> nn.Parameter:
    """Return `values` as a parameter beside `weight`: float32 whatever its type, or float64 with it.

    An update at a small learning rate is lost in the rounding of a 16-bit float. A parameter of that type is used as it is,
    so that two sides can train the same one.
    """
    kind = torch.promote_types(weight.dtype, torch.float32)
    if isinstance(values, nn.Parameter) and values.dtype == kind and values.device == weight.device:
        return values
    return nn.Parameter(values.detach().to(device=weight.device, dtype=kind, copy=True))


def mean_of_rows(weight: torch.Tensor) -> torch.Tensor:
    """Return the mean of the rows of a matrix, shape (d,), float32, summed in float64 some rows at a time."""
    total = torch.zeros(weight.shape[1], dtype=torch.float64, device=weight.device)
    for rows in weight.detach().split(1 << 14):
        total += rows.double().sum(dim=0)
    return (total / len(weight)).float()


class RowEmbedding(nn.Module):
    """An input embedding with K replaced rows, which can be trained.

    The lookup of token t is ``rows[slot(t)]`` for a row of the set, and ``frozen.weight[t]`` else, both times the scale of
    the embedding where it has one. The memory of a step is in proportion to the tokens looked up and to K x d, never to V x d,
    and the optimizer has K x d values. As in `torch.nn.Embedding` the padding row gets no gradient, even in the set.

    Parameters
    ----------
    frozen
        The embedding of the base model, shape (V, d), any float type; it is not copied and gets no gradient.
    ids
        Rows of the set, shape (K,), ascending.
    values
        Values of these rows, shape (K, d).
    count
        Rows of the whole, where there are more than V, for new tokens; one of them that is not in the set is the mean of all
        rows of `frozen`. None (the default) for V.

    Attributes
    ----------
    rows
        The trained parameter, shape (K, d), float32 (`master`).
    mean
        The mean of the frozen rows, shape (d,), where there are more than V; else None.
    gate
        From tokens of any shape to a mask of the same shape that says where the rows of the set are active; elsewhere a token
        looks up its frozen row. None, the default, is everywhere. `ks_lottery.models.gate` sets it.
    """

    def __init__(
        self, frozen: nn.Embedding, ids: npt.NDArray[np.int64], values: torch.Tensor, count: int | None = None
    ) -> None:
        super().__init__()
        device, count = frozen.weight.device, max(count or 0, frozen.num_embeddings)
        self.frozen = frozen.requires_grad_(requires_grad=False)
        self.rows = master(values, frozen.weight)
        slot = torch.full((count,), -1, dtype=torch.int32, device=device)
        slot[torch.from_numpy(ids).to(device)] = torch.arange(len(ids), dtype=torch.int32, device=device)
        self.slot: torch.Tensor
        self.register_buffer("slot", slot, persistent=False)
        self.mean: torch.Tensor | None
        self.register_buffer(
            "mean", mean_of_rows(frozen.weight) if count > frozen.num_embeddings else None, persistent=False
        )
        place = np.flatnonzero(ids == (-1 if frozen.padding_idx is None else frozen.padding_idx))
        self.padding = int(place[0]) if len(place) else None
        self.gate: Callable[[torch.Tensor], torch.Tensor] | None = None

    @property
    def weight(self) -> torch.Tensor:
        """The frozen matrix, for code that asks an embedding for its type or device."""
        return self.frozen.weight

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Look up `input_ids` (any shape) and return (..., d) in the type of the frozen matrix."""
        if self.mean is None:
            base = self.frozen(input_ids)
        else:
            last = self.frozen.num_embeddings - 1
            mean = _scaled(self.mean.to(self.frozen.weight.dtype), self.frozen)
            base = torch.where((input_ids > last).unsqueeze(-1), mean, self.frozen(input_ids.clamp_max(last)))
        if len(self.rows) == 0:
            return base
        slot = self.slot[input_ids]
        # Positions outside the set look up row 0 and discard it: no shape depends on data, so that a GPU need not wait.
        ours = F.embedding(slot.clamp_min(0), self.rows, self.padding).to(base.dtype)
        active = slot >= 0 if self.gate is None else (slot >= 0) & self.gate(input_ids)
        return torch.where(active.unsqueeze(-1), _scaled(ours, self.frozen), base)


def _scaled(rows: torch.Tensor, frozen: nn.Embedding) -> torch.Tensor:
    """Multiply looked-up rows as the frozen embedding does: by a number, or by a buffer in the type of its matrix."""
    scale: Any = getattr(frozen, "embed_scale", None)
    if scale is None:
        return rows
    return rows * (scale.to(frozen.weight.dtype) if isinstance(scale, torch.Tensor) else scale)


def input_embedding(model: nn.Module) -> nn.Embedding:
    """Return the model's own input embedding, also where a row module is installed over it.

    It is a plain `torch.nn.Embedding`, or one that multiplies what it looks up by its ``embed_scale``, as Gemma's does.

    Raises
    ------
    TypeError
        When the row module does not support the kind of the input embedding.
    """
    try:
        current = model.get_input_embeddings()  # type: ignore[operator]
    except NotImplementedError:
        current = None
    embedding = current.frozen if isinstance(current, RowEmbedding) else current
    kind = type(embedding).__name__
    if embedding is None:
        raise TypeError("it has no single input embedding")
    if not isinstance(embedding, nn.Embedding):
        raise TypeError(f"its input embedding is a {kind}, not a torch.nn.Embedding")
    if not embedding.weight.dtype.is_floating_point:
        raise TypeError(f"its input embedding is quantised to {embedding.weight.dtype}".replace("torch.", ""))
    if embedding.max_norm is not None or embedding.scale_grad_by_freq or embedding.sparse:
        raise TypeError("its input embedding renormalises rows or scales or thins out gradients")
    if not (type(embedding) is nn.Embedding or _multiplies(embedding)):
        raise TypeError(f"its input embedding is a {kind}, which does more than a lookup times a scale")
    return embedding


def _multiplies(embedding: nn.Embedding) -> bool:
    """Say whether a subclass's lookup is a plain one times its scale, bit for bit, on its first and last rows."""
    if embedding.weight.is_meta:
        return hasattr(embedding, "embed_scale")
    ids = torch.arange(embedding.num_embeddings, device=embedding.weight.device)
    ids = torch.cat([ids[:8], ids[-8:]])
    with torch.no_grad():
        return torch.equal(embedding(ids), _scaled(F.embedding(ids, embedding.weight), embedding))


def padding_row(model: nn.Module) -> int | None:
    """Return the row that training never moves on the input side, or None where the model has no such row."""
    return input_embedding(model).padding_idx


def reachable_rows(sequences: list[list[int]], padding: int | None) -> npt.NDArray[np.int64]:
    """Return the rows that training on `sequences` can move on the input side, ascending.

    A row that never occurs there gets no gradient, nor does the last token of a sequence, from which nothing is predicted, nor
    the padding row.
    """
    reached = {token for sequence in sequences for token in sequence[:-1] if token != padding}
    return np.array(sorted(reached), dtype=np.int64)


def trainable_rows(sequences: list[list[int]], model: nn.Module, side: Side) -> npt.NDArray[np.int64]:
    """Return the rows that training on `sequences` can move on a side, ascending.

    ``input``: `reachable_rows`. ``output`` and ``both``: every row, since the softmax reaches them all.
    """
    if side == "input":
        return reachable_rows(sequences, padding_row(model))
    return np.arange(input_embedding(model).num_embeddings, dtype=np.int64)
