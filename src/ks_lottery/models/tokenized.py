"""A checkpoint with its tokenizer: all of a model that a text needs, before its weights are loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ks_lottery.models.load import LoadedModel, load_tokenizer, open_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

    from ks_lottery.checkpoint.reader import Checkpoint


class Tokenized(Protocol):
    """A checkpoint with its tokenizer: all of a model that a text needs. A loaded model is one too."""

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint."""
        ...

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer."""
        ...


@dataclass(frozen=True, eq=False)
class UnloadedModel:
    """A checkpoint with its tokenizer, whose weights are not loaded."""

    checkpoint: Checkpoint
    tokenizer: PreTrainedTokenizerBase


def tokenizer_of(base: str | Path | Checkpoint | LoadedModel, *, trust_remote_code: bool = False) -> Tokenized:
    """Return a model with its tokenizer, without loading the weights of one that is not loaded yet.

    Raises
    ------
    UserError
        When nothing of that name exists, or it has no tokenizer.
    """
    if isinstance(base, LoadedModel):
        return base
    checkpoint = open_checkpoint(base)
    return UnloadedModel(checkpoint, load_tokenizer(checkpoint, trust_remote_code=trust_remote_code))
