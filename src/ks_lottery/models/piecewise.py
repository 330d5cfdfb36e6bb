"""A frozen head multiplied some rows at a time: on a CPU the library makes a packed copy of any matrix that it multiplies.

Must never give the matrix a gradient, nor touch a head that is trained or of another kind than a plain linear layer.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)
from torch import nn
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from collections.abc import Generator

PIECE = 8192
"""Rows of the matrix that are multiplied at a time."""


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
def in_pieces(head: nn.Module) -> Generator[None]:
    """Multiply a frozen head on a CPU in pieces inside a block; any other head is left alone."""
    layer: Any = head
    frozen = type(head) is nn.Linear and not any(parameter.requires_grad for parameter in head.parameters())
    if not frozen or layer.weight.device.type != "cpu":
        yield
        return

    def forward(hidden: torch.Tensor) -> torch.Tensor:
        return _PiecewiseLinear.apply(hidden, layer.weight, layer.bias)  # type: ignore[return-value]

    layer.forward = forward
    try:
        yield
    finally:
        del layer.forward
