"""Prompts computed before generation: what all of them open with once, the rest once a sentence instead of once a beam.

Must never change what `generate` answers beyond float rounding: it gets the same tokens and mask, and the keys and values
that it would have computed.
"""

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
"""Methods of PEFT that put virtual tokens before the text, and what the tokens are given as."""


@dataclass(frozen=True)
class Opening:
    """What all prompts of a text open with, computed for one row.

    Parameters
    ----------
    keys, values
        Those of each layer, shape (1, heads, N, width), N >= 0.
    virtual
        Whether they are of N virtual tokens, which stand before everything, padding included, as PEFT places them; else they
        are of the first N tokens of each prompt.
    """

    keys: tuple[torch.Tensor, ...]
    values: tuple[torch.Tensor, ...]
    virtual: bool = False

    @property
    def length(self) -> int:
        """The number N of tokens."""
        return self.keys[0].shape[2] if self.keys else 0


def holds_keys_and_values(lm: PreTrainedModel) -> bool:
    """Say whether a model's cache is keys and values in every layer, and can be given to `generate`.

    Windows of attention are no hindrance, since the mask keeps them; recurrent states, chunks, layers that share keys, and
    models that reorder a cache of their own are.
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
    with torch.inference_mode():
        model.base_model(input_ids=torch.tensor([list(prefix)], device=model.device), cache=cache, use_cache=True)
    return _opening(cache)


def virtual_opening(adapted: Any) -> Opening:
    """Compute the virtual tokens of a PEFT model.

    PEFT 0.21 looks for the cache under a name that transformers no longer passes, and so its own `generate` puts the virtual
    tokens in again at every step.

    Raises
    ------
    UserError
        When the method is none of `VIRTUAL`.
    """
    from transformers import DynamicCache

    kind = str(getattr(adapted.active_peft_config.peft_type, "value", adapted.active_peft_config.peft_type))
    if kind not in VIRTUAL:
        raise UserError(
            f"an adapter of the kind {kind} cannot translate: merge it into its model, or use another method"
        )
    with torch.inference_mode():
        found: Any = adapted.get_prompt(1)
        if VIRTUAL[kind] == "keys and values":
            return _opening(found, virtual=True)
        lm = adapted.get_base_model()
        cache = DynamicCache()
        embeddings = found.to(lm.get_input_embeddings().weight.dtype)
        lm.base_model(inputs_embeds=embeddings, cache=cache, use_cache=True)
        return _opening(cache, virtual=True)


def _opening(cache: DynamicCache, *, virtual: bool = False) -> Opening:
    layers: list[Any] = list(cache.layers)
    return Opening(tuple(layer.keys for layer in layers), tuple(layer.values for layer in layers), virtual=virtual)


def prompt_cache(
    lm: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor, opening: Opening, beams: int
) -> DynamicCache:
    """Return the cache of all but the last token of each prompt, for `beams` rows a sentence; `opening` stays as it is.

    Where prompts differ in length the last tokens of the opening are computed again in the shorter ones: their columns lie
    beside tokens of the longer ones.

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
        place = (
            (torch.arange(start) - first.unsqueeze(1)).clamp_min(0).to(ids.device)
        )  # what is under padding is masked
        for keys, values in zip(opening.keys, opening.values, strict=True):
            layer = DynamicLayer()
            layer.update(keys[0][:, place].transpose(0, 1), values[0][:, place].transpose(0, 1))
            cache.layers.append(layer)
    if start < end:
        model: Any = lm.base_model
        more: dict[str, Any] = {}
        if "position_ids" in inspect.signature(model.forward).parameters:
            positions = (mask.cumsum(dim=1) - 1).masked_fill(mask == 0, 0)
            more["position_ids"] = positions[:, start:end]
        model(input_ids=ids[:, start:end], attention_mask=mask[:, :end], cache=cache, use_cache=True, **more)
    return for_beams(cache, beams)
