"""The row module of the output side: logits of trained rows come from a small matrix, all others from the frozen head.

Must never copy the V x d matrix, nor give it a gradient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)
from torch import nn

from ks_lottery.models.rows import master

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

PIECE = 8192
"""Rows of a head that are turned into float32 at a time."""


class RowHead(nn.Module):
    """An output embedding of which K rows are replaced, and can be trained.

    The logit of token t is ``rows[slot(t)] . h + bias[t]`` for a row of the set, and the frozen head's else. With K = V the
    frozen matrix is not multiplied at all.

    Parameters
    ----------
    frozen
        The head of the base model, weight (V, d), any float type; neither copied nor given a gradient. Its bias stays.
    ids
        Rows of the set, shape (K,), ascending.
    values
        Their values, shape (K, d).

    Attributes
    ----------
    rows
        The trained parameter, shape (K, d), float32 (`rows.master`); it is multiplied in the type of the frozen head.
    """

    def __init__(self, frozen: nn.Linear, ids: npt.NDArray[np.int64], values: torch.Tensor) -> None:
        super().__init__()
        self.frozen = frozen.requires_grad_(requires_grad=False)
        self.rows = master(values, frozen.weight)
        self.ids: torch.Tensor
        self.register_buffer("ids", torch.from_numpy(ids.copy()).to(frozen.weight.device), persistent=False)

    @property
    def weight(self) -> torch.Tensor:
        """The frozen matrix, for code that asks a head for its type or device."""
        return self.frozen.weight

    @property
    def bias(self) -> torch.Tensor | None:
        """The frozen bias, shape (V,), if there is one."""
        return self.frozen.bias

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return logits, shape (..., V), of hidden states, shape (..., d)."""
        rows = self.rows.to(self.frozen.weight.dtype)
        if len(rows) == self.frozen.out_features:
            return F.linear(hidden, rows, self.frozen.bias)
        logits = self.frozen(hidden)
        if len(rows) == 0:
            return logits
        # In place: the frozen head's logits are nobody else's, and its gradient does not need them.
        return logits.index_copy_(-1, self.ids, F.linear(hidden, rows, self._bias()))

    def _bias(self) -> torch.Tensor | None:
        bias = self.bias
        return None if bias is None else bias[self.ids]


def output_embedding(model: nn.Module) -> nn.Linear:
    """Return the model's own head, below a row module if one is installed.

    Raises
    ------
    TypeError
        When the model's head is of a kind that the row module does not know.
    """
    current = model.get_output_embeddings()  # type: ignore[operator]
    head = current.frozen if isinstance(current, RowHead) else current
    if head is None:
        raise TypeError("it has no output embedding of its own to replace")
    if type(head) is not nn.Linear:
        raise TypeError(f"its output embedding is a {type(head).__name__}, not a plain torch.nn.Linear")
    if not head.weight.dtype.is_floating_point:
        raise TypeError(f"its output embedding is quantised to {head.weight.dtype}".replace("torch.", ""))
    return head


def float32_logits(head: nn.Module, hidden: torch.Tensor) -> torch.Tensor | None:
    """Apply a head in float32, some rows of its matrix at a time, so that no float32 copy of the whole is made.

    Replaced rows count as the body's type rounds them, since so they are trained. None where the kind of head is not known.
    """
    frozen = head.frozen if isinstance(head, RowHead) else head
    if not isinstance(frozen, nn.Linear):
        return None
    wide = hidden.float()

    def apply(matrix: torch.Tensor) -> torch.Tensor:
        parts = [F.linear(wide, rows.to(frozen.weight.dtype).float()) for rows in matrix.split(PIECE)]
        return torch.cat(parts, dim=-1)

    if isinstance(head, RowHead) and len(head.rows) == frozen.out_features:
        logits = apply(head.rows)
    else:
        logits = apply(frozen.weight)
        if isinstance(head, RowHead) and len(head.rows):
            logits = logits.index_copy(-1, head.ids, apply(head.rows))
    bias: torch.Tensor | None = getattr(frozen, "bias", None)
    return logits if bias is None else logits + bias.float()
