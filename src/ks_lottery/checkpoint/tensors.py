"""What can be compared: anything that hands out its tensors as blocks of units, one output unit a row.

Must never build a model, nor hand out more than the block that was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt
    import torch


EMBEDDING_NAMES = ("embed_tokens", "wte", "word_embeddings", "tok_embeddings", "embed_in", "tok_embed")
"""What model families call the module of their input embedding."""

HEAD_NAMES = ("lm_head", "output", "embed_out", "output_projection")
"""What model families call the module of their output embedding."""

CONV1D_MODELS = ("gpt2", "openai-gpt", "decision_transformer", "imagegpt")
"""Model types that store the matrices below as (inputs, outputs)."""

CONV1D_NAMES = ("c_attn", "c_proj", "c_fc", "q_attn")
"""Modules of those that are a Conv1D."""


@dataclass(frozen=True)
class Units:
    """A tensor as samples: `count` units of `width` coordinates.

    A row of a matrix is one unit; a vector is one unit as a whole; leading axes of anything higher are joined. `matrix` says
    whether the tensor is one (or higher), `transposed` whether it is stored the other way round, as GPT-2's Conv1D is.
    """

    count: int
    width: int
    dtype: torch.dtype
    matrix: bool
    transposed: bool = False

    @classmethod
    def of(cls, shape: tuple[int, ...], dtype: torch.dtype, *, transposed: bool = False) -> Units:
        """Return how a tensor of `shape` is cut into units."""
        if len(shape) < 2:
            return cls(1, int(np.prod(shape, dtype=np.int64)), dtype, matrix=False)
        if transposed and len(shape) == 2:
            return cls(shape[1], shape[0], dtype, matrix=True, transposed=True)
        return cls(int(np.prod(shape[:-1], dtype=np.int64)), shape[-1], dtype, matrix=True)


class Source(Protocol):
    """One side of a comparison."""

    @property
    def name(self) -> str:
        """What the user called it."""
        ...

    @property
    def units(self) -> Mapping[str, Units]:
        """Every tensor of floats by its name."""
        ...

    @property
    def embedding(self) -> str:
        """Name of the input embedding."""
        ...

    @property
    def head(self) -> str:
        """Name of the output embedding; the input embedding's where the two are tied."""
        ...

    @property
    def folder(self) -> Path:
        """Where the tokenizer lies, if there is one."""
        ...

    def block(self, tensor: str, start: int, stop: int) -> torch.Tensor:
        """Return units `start` to `stop` of a tensor, shape (stop - start, width), in its stored type."""
        ...

    def changed(self, tensor: str) -> npt.NDArray[np.int64] | None:
        """Return the units that may differ from the base it was made from, ascending; None where that is not known."""
        ...


def _module(tensor: str) -> str:
    return tensor.split(".")[-2] if "." in tensor else ""


def cut(shapes: Mapping[str, tuple[tuple[int, ...], torch.dtype]], model_type: str) -> dict[str, Units]:
    """Return how each tensor of floats is cut into units.

    Parameters
    ----------
    shapes
        Name to shape and type.
    model_type
        As ``config.json`` has it; it tells which matrices are stored the other way round.
    """
    turned = CONV1D_NAMES if model_type in CONV1D_MODELS else ()
    return {
        name: Units.of(shape, dtype, transposed=_module(name) in turned)
        for name, (shape, dtype) in shapes.items()
        if dtype.is_floating_point
    }


def find_embedding(units: Mapping[str, Units], where: str) -> str:
    """Return the input embedding: the one matrix whose module is called like one.

    Raises
    ------
    UserError
        When there is none, or more than one.
    """
    names = [name for name, unit in units.items() if unit.matrix and _module(name) in EMBEDDING_NAMES]
    if len(names) != 1:
        what = "no input embedding" if not names else f"several input embeddings ({', '.join(names)})"
        raise UserError(f"{where} has {what}: give a causal language model's checkpoint")
    return names[0]


def find_head(units: Mapping[str, Units], where: str) -> str:
    """Return the output embedding, or the input embedding where no other is stored: the two are tied."""
    embedding = find_embedding(units, where)
    names = [name for name, unit in units.items() if unit.matrix and _module(name) in HEAD_NAMES]
    return names[0] if len(names) == 1 and units[names[0]].count == units[embedding].count else embedding
