"""Attention in plain operations inside a block, on processors where the fused one is slower."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Generator

    from transformers import PreTrainedModel


@contextmanager
def plain_attention(model: PreTrainedModel) -> Generator[None]:
    """On a CPU, compute attention in plain operations; afterwards the model has its own attention again.

    There the gradient of the fused attention takes several times as long, and on short texts its forward is slower too
    (docs/log.md).
    """
    lm: Any = model
    before = lm.config._attn_implementation  # noqa: SLF001
    plain = before == "sdpa" and lm.get_input_embeddings().weight.device.type == "cpu"
    if plain:
        lm.set_attn_implementation("eager")
    try:
        yield
    finally:
        if plain:
            lm.set_attn_implementation(before)
