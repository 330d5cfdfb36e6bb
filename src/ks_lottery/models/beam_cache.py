"""Keys and values while beams are searched: a prompt's are held for all beams of a sentence, and only what is new is moved.

Must never hold other numbers than the plain cache would: it differs in what is copied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers.cache_utils import DynamicLayer

if TYPE_CHECKING:
    import torch
    from transformers import DynamicCache

BLOCK = 32
"""Tokens that room is made for at a time."""


class BeamLayer(DynamicLayer):
    """One layer's keys and values, with room for more: a step writes one column, and a change of beams moves only new columns.

    The plain layer copies all it holds in each step, and again when beams are reordered. Beams stay within their sentence,
    and its prompt is the same for each, so that the prompt's columns need not move.

    Parameters
    ----------
    keys, values
        Those of the prompts, shape (B, heads, T, width); repeated here for the beams of each sentence.
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
        made = tensor.new_empty((rows * repeats, heads, length + room, width))
        made.view(rows, repeats, heads, length + room, width)[..., :length, :] = tensor.unsqueeze(1)
        return made

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
        """Forget the last `-tokens_to_remove` columns."""
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
    """Return a new cache in which each row of `cache`, all of whose layers are keys and values, stands `beams` times."""
    from transformers import DynamicCache

    made = DynamicCache()
    held: list[Any] = list(cache.layers)
    layers: list[Any] = [BeamLayer(layer.keys, layer.values, beams) for layer in held]
    made.layers = layers
    return made
