"""The output embedding: a head with replaced rows, and the multiplication of a frozen matrix by some rows at a time.

No V x d matrix is copied, and a frozen one has no gradient.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)
from torch import nn
from torch.autograd.function import once_differentiable

from ks_lottery.models.rows import master, mean_of_rows

if TYPE_CHECKING:
    from collections.abc import Generator

    import numpy as np
    import numpy.typing as npt

PIECE = 8192
"""Rows of a head that are multiplied at a time."""


class RowHead(nn.Module):
    """An output embedding with K replaced rows, which can be trained.

    The logit of token t is ``rows[slot(t)] . h + bias[t]`` for a row of the set, and the frozen head's else. With K = V the
    frozen matrix is not multiplied at all.

    Parameters
    ----------
    frozen
        The head of the base model, weight (V, d), any float type. It is not copied and gets no gradient; its bias stays.
    ids
        Rows of the set, shape (K,), ascending.
    values
        Values of these rows, shape (K, d).
    count
        Rows of the whole, where there are more than V, for new tokens; one of them that is not in the set is the mean of all
        rows of `frozen`, and so is its bias. None (the default) for V.

    Attributes
    ----------
    rows
        The trained parameter, shape (K, d), float32 (`rows.master`); it is multiplied in the type of the frozen head.
    beyond
        Rows beyond V.
    mean
        The mean of the frozen rows, shape (1, d), where there are more than V; else None.
    """

    def __init__(
        self, frozen: nn.Linear, ids: npt.NDArray[np.int64], values: torch.Tensor, count: int | None = None
    ) -> None:
        super().__init__()
        self.beyond = max(0, (count or 0) - frozen.out_features)
        self.mean: torch.Tensor | None
        self.register_buffer("mean", mean_of_rows(frozen.weight)[None] if self.beyond else None, persistent=False)
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
        """The frozen bias, shape (V,), if there is one, followed by its mean for each row beyond V."""
        bias: Any = self.frozen.bias
        return bias if bias is None or not self.beyond else torch.cat([bias, bias.mean().expand(self.beyond)])

    @property
    def all_rows(self) -> bool:
        """Whether every row is replaced, so that the frozen matrix need not be multiplied."""
        return len(self.rows) == self.frozen.out_features + self.beyond

    def extended(self, logits: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
        """Return logits of the V frozen rows, followed by the mean row's, shape (..., 1), for each one beyond."""
        return torch.cat([logits, mean.expand(*mean.shape[:-1], self.beyond)], dim=-1) if self.beyond else logits

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return logits, shape (..., V), of hidden states, shape (..., d)."""
        rows = self.rows.to(self.frozen.weight.dtype)
        hidden = hidden.to(rows.device)  # the last layer can be on another GPU
        if self.all_rows:
            return F.linear(hidden, rows, self.bias)
        logits = self.frozen(hidden)
        if self.mean is not None:
            bias: Any = self.frozen.bias
            mean = F.linear(hidden, self.mean.to(rows.dtype), None if bias is None else bias.mean()[None])
            logits = self.extended(logits, mean)
        if len(rows) == 0:
            return logits
        # In place: nothing else uses the frozen head's logits, and its gradient does not need them.
        return logits.index_copy_(-1, self.ids, F.linear(hidden, rows, self._bias()))

    def _bias(self) -> torch.Tensor | None:
        bias = self.bias
        return None if bias is None else bias[self.ids]


def output_embedding(model: nn.Module) -> nn.Linear:
    """Return the model's own head, also where a row module is installed over it.

    Raises
    ------
    TypeError
        When the row module does not support the kind of the head.
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

    Replaced rows are rounded to the body's type first, as in training.

    Returns
    -------
    Tensor or None
        Logits, shape (..., V); None where the kind of head is not known.
    """
    frozen = head.frozen if isinstance(head, RowHead) else head
    if not isinstance(frozen, nn.Linear):
        return None
    wide = hidden.to(frozen.weight.device).float()

    def apply(matrix: torch.Tensor) -> torch.Tensor:
        parts = [F.linear(wide, rows.to(frozen.weight.dtype).float()) for rows in matrix.split(PIECE)]
        return torch.cat(parts, dim=-1)

    if isinstance(head, RowHead) and head.all_rows:
        logits = apply(head.rows)
    else:
        logits = apply(frozen.weight)
        if isinstance(head, RowHead) and head.mean is not None:
            logits = head.extended(logits, apply(head.mean))
        if isinstance(head, RowHead) and len(head.rows):
            logits = logits.index_copy(-1, head.ids, apply(head.rows))
    bias: torch.Tensor | None = getattr(head, "bias", None)
    return logits if bias is None else logits + bias.float()


class _PiecewiseLinear(torch.autograd.Function):
    """The linear layer of a matrix without a gradient."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:  # type: ignore[override]
        ctx.save_for_backward(weight)
        output = hidden.new_empty((*hidden.shape[:-1], len(weight)))
        for start in range(0, len(weight), PIECE):
            part = slice(start, start + PIECE)
            output[..., part] = F.linear(hidden, weight[part], None if bias is None else bias[part])
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:  # type: ignore[override]
        (weight,) = ctx.saved_tensors
        wide = torch.promote_types(gradient.dtype, torch.float32)
        total = torch.zeros((*gradient.shape[:-1], weight.shape[1]), dtype=wide, device=gradient.device)
        for start in range(0, len(weight), PIECE):
            part = slice(start, start + PIECE)
            total += gradient[..., part] @ weight[part]
        return total.to(gradient.dtype), None, None


@contextmanager
def at_labels(head: nn.Module, labelled: torch.Tensor, *, float32: bool) -> Generator[None]:
    """Apply a head to the labelled positions only, inside a block.

    Parameters
    ----------
    labelled
        Whether a position has a label, shape (B, T); hidden states of further positions before these T are dropped.
    float32
        Compute the logits in float32 whatever the type of the head, where its kind is known.
    """

    def select(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (inputs[0][:, -labelled.shape[1] :][labelled.to(inputs[0].device)], *inputs[1:])

    def widen(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        wide = float32_logits(module, inputs[0])
        return output if wide is None else wide

    handles = [head.register_forward_pre_hook(select)]
    weight: Any = head.weight
    if float32 and weight.dtype != torch.float32:
        handles.append(head.register_forward_hook(widen))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def in_pieces(head: nn.Module) -> Generator[None]:
    """Multiply a frozen head on a CPU in pieces inside a block; any other head stays as it is.

    On a CPU torch makes a packed copy of any matrix that it multiplies; in pieces that copy is small.
    """
    layer: Any = head
    frozen = type(head) is nn.Linear and not any(parameter.requires_grad for parameter in head.parameters())
    if not frozen or layer.weight.device.type != "cpu":
        yield
        return

    def forward(hidden: torch.Tensor) -> torch.Tensor:
        return _PiecewiseLinear.apply(hidden, layer.weight, layer.bias)  # type: ignore[return-value]

    dispatched = vars(layer).get("forward")  # that of accelerate, where layers are on several devices
    layer.forward = forward
    try:
        yield
    finally:
        del layer.forward
        if dispatched is not None:
            layer.forward = dispatched
