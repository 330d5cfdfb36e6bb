"""The summed cross entropy of logits, computed in float32 a few rows at a time, without a float32 copy of the logits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK_VALUES = 4 << 20
"""Logits that are converted to float32 at a time."""


class _SummedCrossEntropy(torch.autograd.Function):
    """Saves the logits in their own type, and for each row its largest logit and log sum exp of the differences from it."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        top = logits.new_empty((len(logits), 1), dtype=torch.promote_types(logits.dtype, torch.float32))
        spread, losses = torch.empty_like(top), torch.empty_like(top)
        for part in _parts(logits):
            top[part] = logits[part].amax(dim=1, keepdim=True).to(top.dtype)
            rows = logits[part] - top[part]  # in the wider type
            labelled = rows.gather(1, labels[part, None])
            spread[part] = rows.exp_().sum(dim=1, keepdim=True).log_()
            losses[part] = spread[part] - labelled
        ctx.save_for_backward(logits, labels, top, spread)
        return losses.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: torch.Tensor) -> tuple[torch.Tensor, None]:  # type: ignore[override]
        logits, labels, top, spread = ctx.saved_tensors
        gradient = torch.empty_like(logits)
        for part in _parts(logits):
            rows = (logits[part] - top[part]).sub_(spread[part]).exp_()
            rows.scatter_add_(1, labels[part, None], torch.full_like(rows[:, :1], -1.0))
            gradient[part] = rows.mul_(scale)
        return gradient, None


def summed_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the sum of -log softmax(logits)[label], in float32, or float64 for logits in it.

    Parameters
    ----------
    logits
        Shape (N, V), any float type.
    labels
        Shape (N,), each from 0 to V - 1.

    Notes
    -----
    Beyond the logits and their gradient, both in the logits' type, memory is bounded.
    """
    return _SummedCrossEntropy.apply(logits, labels)  # type: ignore[return-value]


def _parts(logits: torch.Tensor) -> Iterator[slice]:
    step = max(1, _CHUNK_VALUES // logits.shape[1])
    for start in range(0, len(logits), step):
        yield slice(start, start + step)
