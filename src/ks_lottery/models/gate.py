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
    return tuple(token + MARK if here != rest else token for token, here in zip(tokens, active, strict=True))


def without_marks(tokens: Sequence[int]) -> list[int]:
    """Return the row numbers of tokens, marked or not.

    Examples
    --------
    >>> without_marks(marked([5, 6], [True, False], rest=False))
    [5, 6]
    """
    return [token % MARK for token in tokens]


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
        self._depth = 0
        self._seen = 0

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return where the rows are active, in the shape of `tokens`, which are those that the model was called with."""
        if self._active is None or self._active.shape != tokens.shape:
            raise TypeError("the model looks up other tokens than it was called with, so that a gate cannot place them")
        return self._active

    def before(
        self, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Read and remove the marks; called before each forward of a module that the embedding is in.

        The outermost of these has the marks; what it calls gets tokens without.
        """
        self._depth += 1
        if self._depth > 1:
            return None
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
        """Forget the positions; called after each of these forwards, also one that failed."""
        self._depth -= 1
        if self._depth == 0:
            self._active = None

    @contextmanager
    def generating(self, tokens: torch.Tensor) -> Generator[torch.Tensor]:
        """Place each forward inside the block behind what is in its cache; see `unmarked`."""
        self.prompts, self._seen = tokens >= MARK, 0
        try:
            yield tokens % MARK
        finally:
            self.prompts = None

    def _columns(self, tokens: torch.Tensor, kwargs: dict[str, Any]) -> torch.Tensor:
        """Return the marks of the columns that a forward inside `generate` computes; each prompt has a row a beam."""
        assert self.prompts is not None  # noqa: S101 (the one caller has checked it)
        rows, width = tokens.shape
        every = self.prompts.repeat_interleave(rows // len(self.prompts), dim=0)
        first = self._cached(kwargs)
        self._seen = first + width
        more = every.new_zeros((rows, max(0, first + width - every.shape[1])))
        return torch.cat([every, more], dim=1)[:, first : first + width]

    def _cached(self, kwargs: dict[str, Any]) -> int:
        """Return how many columns are in the cache that a forward inside `generate` gets; 0 without a cache."""
        cache: Any = next((value for value in kwargs.values() if hasattr(value, "get_seq_length")), None)
        if cache is None:
            return 0
        try:
            return int(cache.get_seq_length())
        except ValueError:  # a cache of states alone does not know: what the forwards before had is in it
            return self._seen


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
    handles: list[Any] = []
    for module in _around(lm, embedding):
        handles.append(module.register_forward_pre_hook(gate.before, with_kwargs=True))
        handles.append(module.register_forward_hook(gate.after, always_call=True))
    embedding.gate = gate
    try:
        yield
    finally:
        embedding.gate = None
        for handle in handles:
            handle.remove()


def _around(lm: PreTrainedModel, embedding: RowEmbedding) -> list[Any]:
    """Return the modules that an embedding is in, of which callers may call any: the model, its body, its decoder."""
    name = next(name for name, module in lm.named_modules() if module is embedding)
    parts = name.split(".")
    return [lm.get_submodule(".".join(parts[:count])) for count in range(len(parts))]


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
    with gate.generating(tokens) as plain:
        yield plain
