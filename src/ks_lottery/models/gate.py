"""A gate on installed rows: at which positions of a text they are active; elsewhere a token looks up its frozen row."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from ks_lottery.models.rows import RowEmbedding

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from transformers import PreTrainedModel

MARK = 1 << 32
"""Added to a token whose position is not as the rest; above every row number, so that no token is taken for a marked one."""


def marked(tokens: Sequence[int], active: Sequence[bool], *, rest: bool) -> tuple[int, ...]:
    """Mark the tokens of a prompt that a gate must treat differently from the rest of the text.

    What compares tokens, such as a shared prefix or a batch, then tells apart positions that look up different rows.

    Parameters
    ----------
    tokens, active
        The prompt, and for each of its tokens whether the installed rows are active there.
    rest
        Whether they are active behind the prompt, as for `gated`.

    Examples
    --------
    >>> [token >= MARK for token in marked([5, 6], [True, False], rest=False)]
    [True, False]
    """
    return tuple(
        token + MARK if here != rest else token for token, here in zip(tokens, active, strict=True)
    )


class RowGate:
    """Takes the marks off what a model is called with, and says at which positions the installed rows are active.

    Parameters
    ----------
    rest
        Whether the rows are active at tokens without a mark, such as those that a model generates.
    """

    def __init__(self, *, rest: bool) -> None:
        self.rest = rest
        self.prompts: torch.Tensor | None = None
        self._active: torch.Tensor | None = None

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return where the rows are active, in the shape of `tokens`, which are those that the model was called with."""
        if self._active is None or self._active.shape != tokens.shape:
            raise TypeError("the model looks up other tokens than it was called with, so that a gate cannot place them")
        return self._active

    def before(self, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Read and remove the marks; called before each forward of the model's body."""
        tokens = kwargs.get("input_ids", args[0] if args else None)
        if tokens is None:
            return None
        marks = tokens >= MARK
        if self.prompts is not None:
            marks = marks | self._columns(tokens, kwargs)
        self._active = ~marks if self.rest else marks
        if "input_ids" in kwargs:
            return args, {**kwargs, "input_ids": tokens % MARK}
        return (tokens % MARK, *args[1:]), kwargs

    def after(self, *_: Any) -> None:
        """Forget the positions; called after each forward, also one that failed."""
        self._active = None

    def _columns(self, tokens: torch.Tensor, kwargs: dict[str, Any]) -> torch.Tensor:
        """Return the marks of the columns that a forward inside `generate` computes; each prompt has a row a beam."""
        assert self.prompts is not None  # noqa: S101 (the one caller has checked it)
        rows, width = tokens.shape
        every = self.prompts.repeat_interleave(rows // len(self.prompts), dim=0)
        cached = [int(value.get_seq_length()) for value in kwargs.values() if hasattr(value, "get_seq_length")]
        mask = kwargs.get("attention_mask")
        behind = int(mask.shape[1]) - width if isinstance(mask, torch.Tensor) and mask.ndim == 2 else 0
        first = cached[0] if cached else behind
        more = every.new_zeros((rows, max(0, first + width - every.shape[1])))
        return torch.cat([every, more], dim=1)[:, first : first + width]


@contextmanager
def gated(lm: PreTrainedModel, *, rest: bool) -> Generator[None]:
    """Put a gate on the rows that are installed in a model inside a block; afterwards they are active everywhere again.

    Inside, the model takes tokens with marks (`marked`): in training, with a cache, and with a shared prefix alike.

    Parameters
    ----------
    rest
        Whether the rows are active at tokens without a mark.

    Raises
    ------
    TypeError
        When no rows are installed on the input side.
    """
    embedding: Any = lm.get_input_embeddings()
    if not isinstance(embedding, RowEmbedding):
        raise TypeError("no rows are installed on the input side, so that there is nothing to gate")
    gate = RowGate(rest=rest)
    body: Any = lm.base_model
    handles = [
        body.register_forward_pre_hook(gate.before, with_kwargs=True),
        body.register_forward_hook(gate.after, always_call=True),
    ]
    embedding.gate = gate
    try:
        yield
    finally:
        embedding.gate = None
        for handle in handles:
            handle.remove()


@contextmanager
def unmarked(lm: PreTrainedModel, tokens: torch.Tensor) -> Generator[torch.Tensor]:
    """Give the tokens of prompts without marks inside a block, in which each forward of `generate` gets their marks again.

    What `generate` does with tokens beside calling the model, such as a penalty of repetition, needs row numbers.

    Parameters
    ----------
    tokens
        Prompts, shape (B, T), padded on the left; all forwards inside are of these and of what follows them.
    """
    gate = getattr(lm.get_input_embeddings(), "gate", None)
    if not isinstance(gate, RowGate):
        yield tokens
        return
    gate.prompts = tokens >= MARK
    try:
        yield tokens % MARK
    finally:
        gate.prompts = None
