"""The shared prefix: what all sentences begin with is computed once, and its keys and values are shared, gradients included."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from transformers import DynamicCache, PreTrainedModel

MIN_SHARED = 8
"""For a shorter prefix a second call of the model costs more than it saves."""


def shared_length(input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor | None) -> int:
    """Return how many first positions can be computed once for the whole batch.

    They are the same token in each row, unpadded, carry no label, and leave every row at least one position.

    Parameters
    ----------
    input_ids, attention_mask
        Shape (B, T).
    labels
        Shape (B, T), -100 where there is none; or None in generation.
    """
    batch, length = input_ids.shape
    if batch < 2:
        return 0
    same = (input_ids == input_ids[:1]).all(dim=0) & attention_mask.bool().all(dim=0)
    if labels is not None:
        same &= (labels == -100).all(dim=0)
    shared = min(int(same.long().cumprod(dim=0).sum()), length - 1)
    return shared if shared >= MIN_SHARED else 0


def common_length(prompts: Sequence[Sequence[Any]]) -> int:
    """Return how many first tokens all prompts of a text have in common; each prompt has at least one more."""
    if len(prompts) < 2:
        return 0
    # What the first and the last in sorted order have in common, all between them have too.
    low, high = min(map(tuple, prompts)), max(map(tuple, prompts))
    most = min(len(prompt) for prompt in prompts) - 1
    shared = next((i for i in range(most) if low[i] != high[i]), max(most, 0))
    return shared if shared >= MIN_SHARED else 0


def prefill(lm: PreTrainedModel, prefix: torch.Tensor, batch: int) -> DynamicCache:
    """Run `prefix`, shape (P,), once and return its cache repeated for `batch` rows, with its graph.

    The repetition is the only copy: P keys and values a row and layer.
    """
    from transformers import DynamicCache

    cache = DynamicCache(config=lm.config)
    lm.base_model(input_ids=prefix.unsqueeze(0), cache=cache, use_cache=True)
    cache.batch_repeat_interleave(batch)
    return cache


def is_plain(layer: Any) -> bool:
    """Say whether a layer of a cache is the keys and values of every position, and nothing else."""
    from transformers.cache_utils import DynamicLayer

    return type(layer) is DynamicLayer
