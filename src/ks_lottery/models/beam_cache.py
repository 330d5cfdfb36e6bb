"""Keys and values during beam search: all beams of a sentence share its prompt, and a step moves new columns only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers.cache_utils import DynamicLayer

if TYPE_CHECKING:
    import torch
    from transformers import DynamicCache

BLOCK = 32
"""Tokens by which a buffer grows at a time."""


class BeamLayer(DynamicLayer):
    """Keys and values of one layer, with room for more: a step writes one column, and a change of beams moves new columns only.

    The plain layer copies everything in each step, and again when beams are reordered. A beam stays within its sentence, and
    all beams of a sentence have the same prompt, so that the columns of the prompt never move.

    Parameters
    ----------
    keys, values
        Of the prompts, shape (B, heads, T, width); they are repeated for the beams of each sentence.
    beams
        Rows for each sentence.
    """

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, beams: int) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self.prompt = self.length = keys.shape[2]
        self._buffers = [self._roomy(tensor, beams, BLOCK) for tensor in (keys, values)]
        self._show()

    def _roomy(self, tensor: torch.Tensor, repeats: int, room: int) -> torch.Tensor:
        rows, heads, length, width = tensor.shape
        buffer = tensor.new_empty((rows * repeats, heads, length + room, width))
        buffer.view(rows, repeats, heads, length + room, width)[..., :length, :] = tensor.unsqueeze(1)
        return buffer

    def _show(self) -> None:
        self.keys, self.values = (buffer[:, :, : self.length] for buffer in self._buffers)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add new columns, shape (B x beams, heads, N, width), and return all keys and values."""
        end = self.length + key_states.shape[2]
        if end > self._buffers[0].shape[2]:
            room = max(BLOCK, end - self.length)
            self._buffers = [self._roomy(buffer[:, :, : self.length], 1, room) for buffer in self._buffers]
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, self.length : end] = states
        self.length = end
        self._show()
        return self.keys, self.values  # pyright: ignore[reportReturnType]

    def get_seq_length(self) -> int:
        """Return the number of columns."""
        return self.length

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        """Give each row the new columns of row `beam_idx` of the same sentence, shape (B x beams,)."""
        for buffer in self._buffers:
            new = buffer[:, :, self.prompt : self.length]
            new.copy_(new.index_select(0, beam_idx.to(new.device)))

    def crop(self, tokens_to_remove: int) -> None:
        """Drop the last `-tokens_to_remove` columns."""
        self.length -= abs(tokens_to_remove)
        self.prompt = min(self.prompt, self.length)
        self._show()

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Refuse: rows are repeated once, when the layer is made."""
        raise NotImplementedError("the rows of a beam layer are fixed")

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Refuse: rows are fixed when the layer is made."""
        raise NotImplementedError("the rows of a beam layer are fixed")


def for_beams(cache: DynamicCache, beams: int) -> DynamicCache:
    """Return a new cache with `beams` copies of each row of `cache`; all of its layers must be keys and values."""
    from transformers import DynamicCache

    repeated = DynamicCache()
    plain: list[Any] = list(cache.layers)
    layers: list[Any] = [BeamLayer(layer.keys, layer.values, beams) for layer in plain]
    repeated.layers = layers
    return repeated
