"""The loss of a batch and its gradient, computed a few sentences at a time, so that few activations are in memory at once."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from transformers import DynamicCache

TOKENS = 256
"""Tokens beyond the shared prefix in one part; more at a time are no faster on a processor."""

MOST_TRAINED = 1 << 24
"""With more trained values than this the batch is computed whole: their gradient would be in memory twice."""


class _Known(torch.autograd.Function):
    """A loss whose gradient is known already."""

    @staticmethod
    def forward(
        ctx: Any, loss: torch.Tensor, gradients: Sequence[torch.Tensor | None], *_: torch.Tensor
    ) -> torch.Tensor:  # type: ignore[override]
        ctx.gradients = gradients
        return loss

    @staticmethod
    def backward(ctx: Any, scale: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        return (None, None, *(None if g is None else g * scale for g in ctx.gradients))


def fits(trained: Sequence[torch.Tensor], batch: int) -> bool:
    """Say whether a batch may be computed in parts: on a CPU, with few trained values, whole ones, and without autocast."""
    return (
        batch > 1
        and bool(trained)
        and torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and all(p.device.type == "cpu" and type(p) in {torch.nn.Parameter, torch.Tensor} for p in trained)
        and sum(p.numel() for p in trained) <= MOST_TRAINED
    )


def splits(cache: DynamicCache | None) -> bool:
    """Say whether a cache is keys and values in every layer, so that each part can use it."""
    layers: list[Any] = [] if cache is None else list(cache.layers)
    return all(isinstance(getattr(layer, name, None), torch.Tensor) for layer in layers for name in ("keys", "values"))


def part_rows(lengths: Sequence[int]) -> list[list[int]]:
    """Cut a batch into parts of rows of like length, each of about `TOKENS`, padding included."""
    parts: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda r: (-lengths[r], r)):
        if parts and (len(parts[-1]) + 1) * lengths[parts[-1][0]] <= TOKENS:
            parts[-1].append(row)
        else:
            parts.append([row])
    return parts


def loss_in_parts(
    work: Callable[[list[int], DynamicCache | None], torch.Tensor],
    parts: Sequence[list[int]],
    trained: Sequence[torch.Tensor],
    cache: DynamicCache | None,
) -> torch.Tensor:
    """Return the sum of the parts' losses, from which a gradient flows into `trained` as from the whole.

    Parameters
    ----------
    work
        From the rows of a part, and the prefix's cache for one row, to the part's loss.
    trained
        Every tensor that is trained.
    cache
        Keys and values of the shared prefix for one row, with their graph; each part gets them as leaves, and the sum of
        their gradients is passed to that graph once.
    """
    layers: list[Any] = [] if cache is None else list(cache.layers)
    shared = [tensor for layer in layers for tensor in (layer.keys, layer.values)]
    leaves = [tensor.detach().requires_grad_(tensor.requires_grad) for tensor in shared]
    inputs = [*trained, *(leaf for leaf in leaves if leaf.requires_grad)]
    sums: list[Any] = [None] * len(inputs)
    total = torch.zeros((), device=trained[0].device)
    for rows in parts:
        loss = work(rows, None if cache is None else _with(cache, leaves))
        partial: Any = torch.autograd.grad(loss, inputs, allow_unused=True)
        for place, gradient in enumerate(partial):
            before = sums[place]
            if gradient is not None:
                wide = gradient.to(torch.promote_types(gradient.dtype, torch.float32))
                sums[place] = wide if before is None else before.add_(wide)
        total = total + loss.detach()
    targets = [*trained, *(tensor for tensor in shared if tensor.requires_grad)]
    gradients = [s if s is None else s.to(t.dtype) for s, t in zip(sums, targets, strict=True)]
    return _Known.apply(total, gradients, *targets)  # type: ignore[return-value]


def _with(cache: DynamicCache, tensors: Sequence[torch.Tensor]) -> DynamicCache:
    """Return a copy of a cache with other keys and values."""
    copied = copy.copy(cache)
    copied.layers = [copy.copy(layer) for layer in cache.layers]
    layers: list[Any] = list(copied.layers)
    for number, layer in enumerate(layers):
        layer.keys, layer.values = tensors[2 * number], tensors[2 * number + 1]
    return copied
