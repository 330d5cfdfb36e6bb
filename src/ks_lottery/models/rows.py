"""The row module: looked-up rows that are trained come from a small float32 matrix, all others from the frozen one.

Must never copy the V x d matrix, nor change a row outside its set.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Generator

    import numpy.typing as npt


class RowEmbedding(nn.Module):
    """An input embedding of which K rows are replaced, and can be trained.

    The lookup of token t is ``rows[slot(t)]`` for a row of the set, and ``frozen.weight[t]`` else. One step costs memory
    in proportion to the tokens looked up and to K x d, never to V x d, and the optimizer sees K x d values.

    Parameters
    ----------
    frozen
        The embedding of the base model, shape (V, d), any float type; it is not copied and gets no gradient.
    ids
        Rows of the set, shape (K,), ascending.
    values
        Their values, shape (K, d); kept in float32 whatever the type of `frozen`, since an update at a small learning
        rate is lost in the rounding of a 16-bit float.

    Attributes
    ----------
    rows
        The trained parameter, shape (K, d), float32.
    """

    def __init__(self, frozen: nn.Embedding, ids: npt.NDArray[np.int64], values: torch.Tensor) -> None:
        super().__init__()
        device = frozen.weight.device
        self.frozen = frozen.requires_grad_(requires_grad=False)
        self.rows = nn.Parameter(values.to(device=device, dtype=torch.float32, copy=True))
        slot = torch.full((frozen.num_embeddings,), -1, dtype=torch.int32, device=device)
        slot[torch.from_numpy(ids).to(device)] = torch.arange(len(ids), dtype=torch.int32, device=device)
        self.slot: torch.Tensor
        self.register_buffer("slot", slot, persistent=False)

    @property
    def weight(self) -> torch.Tensor:
        """The frozen matrix, for code that asks an embedding for its type or device."""
        return self.frozen.weight

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Look up `input_ids` (any shape) and return (..., d) in the type of the frozen matrix."""
        base = self.frozen(input_ids)
        if len(self.rows) == 0:
            return base
        slot = self.slot[input_ids]
        # Positions outside the set look up row 0 and throw it away: no data-dependent shape, so no wait on a GPU.
        ours = F.embedding(slot.clamp_min(0), self.rows).to(base.dtype)
        return torch.where((slot >= 0).unsqueeze(-1), ours, base)


def input_embedding(model: nn.Module) -> nn.Embedding:
    """Return the model's own input embedding, below a row module if one is installed.

    Raises
    ------
    TypeError
        When the model's input embedding is of a kind that the row module does not know.
    """
    current = model.get_input_embeddings()  # type: ignore[operator]
    embedding = current.frozen if isinstance(current, RowEmbedding) else current
    if type(embedding) is not nn.Embedding:
        raise TypeError(f"the input embedding is a {type(embedding).__name__}, not a plain torch.nn.Embedding")
    return embedding


@contextmanager
def installed_rows(model: nn.Module, ids: npt.NDArray[np.int64], values: torch.Tensor) -> Generator[RowEmbedding]:
    """Replace rows on the input side of `model` inside a block; afterwards the model is as it was.

    A tied output head keeps the base values: the method's ``side: input``.
    """
    before = model.get_input_embeddings()  # type: ignore[operator]
    rows = RowEmbedding(input_embedding(model), ids, values)
    model.set_input_embeddings(rows)  # type: ignore[operator]
    try:
        yield rows
    finally:
        model.set_input_embeddings(before)  # type: ignore[operator]


def padding_row(model: nn.Module) -> int | None:
    """Return the row that dense training never moves, if the model has one."""
    return input_embedding(model).padding_idx


def reachable_rows(sequences: list[list[int]], padding: int | None) -> npt.NDArray[np.int64]:
    """Return the rows that training on `sequences` can move, ascending.

    On the input side a row that never occurs gets no gradient, and so does the last token of a sequence, since nothing
    is predicted from it, and the padding row.
    """
    reached = {token for sequence in sequences for token in sequence[:-1] if token != padding}
    return np.array(sorted(reached), dtype=np.int64)
