"""Prompts computed before generation: the common opening once a text, the rest once a sentence instead of once a beam."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ks_lottery.errors import UserError
from ks_lottery.models.beam_cache import for_beams

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import DynamicCache, PreTrainedModel

VIRTUAL = {"PREFIX_TUNING": "keys and values", "PROMPT_TUNING": "embeddings", "P_TUNING": "embeddings"}
"""Methods of PEFT that put virtual tokens before the text, and the form of these tokens."""


@dataclass(frozen=True)
class Opening:
    """The tokens that all prompts of a text begin with, computed for one row.

    Parameters
    ----------
    keys, values
        Of each layer, shape (1, heads, N, width), N >= 0.
    virtual
        Whether the N tokens are virtual ones, which come before everything, also before padding, as in PEFT; else they are the
        first N tokens of each prompt.
    """

    keys: tuple[torch.Tensor, ...]
    values: tuple[torch.Tensor, ...]
    virtual: bool = False

    @property
    def length(self) -> int:
        """The number N of tokens."""
        return self.keys[0].shape[2] if self.keys else 0


def holds_keys_and_values(lm: PreTrainedModel) -> bool:
    """Say whether a model's cache is keys and values in every layer, and can be passed to `generate`.

    True also with windows of attention, which the mask applies; False with recurrent states, chunks, layers that share keys,
    and models that reorder a cache of their own.
    """
    from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

    model: Any = lm
    config = model.config.get_text_config(decoder=True)
    takes = inspect.signature(model.forward).parameters
    if (
        not model._supports_default_dynamic_cache()  # noqa: SLF001
        or hasattr(model, "_reorder_cache")
        or getattr(model.generation_config, "cache_implementation", None) is not None
        or getattr(config, "attention_chunk_size", None) is not None
        or getattr(config, "num_kv_shared_layers", None)
        or not {"cache", "attention_mask"} <= set(takes)
    ):
        return False
    kinds = {type(layer) for layer in DynamicCache(config=config).layers}
    return bool(kinds) and kinds <= {DynamicLayer, DynamicSlidingWindowLayer}


def shared_opening(lm: PreTrainedModel, prefix: Sequence[int]) -> Opening:
    """Compute the tokens that all prompts begin with; N may be 0."""
    from transformers import DynamicCache

    if not prefix:
        return Opening((), ())
    cache = DynamicCache()  # plain layers: a window would drop keys that shorter rows still see
    model: Any = lm
    home = model.get_input_embeddings().weight.device
    with torch.inference_mode():
        model.base_model(input_ids=torch.tensor([list(prefix)], device=home), cache=cache, use_cache=True)
    return _opening(cache)


def virtual_opening(adapted: Any) -> Opening:
    """Compute the virtual tokens of a PEFT model.

    PEFT 0.21 expects the cache under a name that transformers no longer uses, so that its own `generate` inserts the virtual
    tokens again in every step.

    Raises
    ------
    UserError
        When the method is not in `VIRTUAL`.
    """
    from transformers import DynamicCache

    kind = str(getattr(adapted.active_peft_config.peft_type, "value", adapted.active_peft_config.peft_type))
    if kind not in VIRTUAL:
        raise UserError(
            f"an adapter of the kind {kind} cannot translate: merge it into its model, or use another method"
        )
    with torch.inference_mode():
        prompt: Any = adapted.get_prompt(1)
        if VIRTUAL[kind] == "keys and values":
            return _opening(prompt, virtual=True)
        lm = adapted.get_base_model()
        cache = DynamicCache()
        embeddings = prompt.to(lm.get_input_embeddings().weight.dtype)
        lm.base_model(inputs_embeds=embeddings, cache=cache, use_cache=True)
        return _opening(cache, virtual=True)


def _opening(cache: DynamicCache, *, virtual: bool = False) -> Opening:
    layers: list[Any] = list(cache.layers)
    return Opening(tuple(layer.keys for layer in layers), tuple(layer.values for layer in layers), virtual=virtual)


def prompt_cache(
    lm: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor, opening: Opening, beams: int
) -> DynamicCache:
    """Return the cache of all but the last token of each prompt, for `beams` rows a sentence; `opening` is not changed.

    Where prompts differ in length, the last tokens of the opening are computed again in the shorter prompts, since their
    columns are also columns of further tokens of the longer prompts.

    Parameters
    ----------
    ids, mask
        Shape (B, T), T at least 2: prompts padded on the left; before them, for virtual tokens, one column each with mask 1.
    """
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    end = ids.shape[1] - 1
    first = torch.zeros(len(ids), dtype=torch.long) if opening.virtual else (end + 1 - mask.sum(dim=1)).cpu()
    start = min(int(first.min()) + opening.length, end) if opening.length else 0
    cache = DynamicCache()
    if start:
        place = (torch.arange(start) - first.unsqueeze(1)).clamp_min(0).to(ids.device)  # columns of padding are masked
        for keys, values in zip(opening.keys, opening.values, strict=True):
            layer = DynamicLayer()
            here = place.to(keys.device)  # layers can be on several GPUs
            layer.update(keys[0][:, here].transpose(0, 1), values[0][:, here].transpose(0, 1))
            cache.layers.append(layer)
    if start < end:
        model: Any = lm.base_model
        more: dict[str, Any] = {}
        if "position_ids" in inspect.signature(model.forward).parameters:
            positions = (mask.cumsum(dim=1) - 1).masked_fill(mask == 0, 0)
            more["position_ids"] = positions[:, start:end]
        model(input_ids=ids[:, start:end], attention_mask=mask[:, :end], cache=cache, use_cache=True, **more)
    return for_beams(cache, beams)
