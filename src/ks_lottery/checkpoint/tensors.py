"""What can be compared: anything that hands out its tensors as blocks of units, one output unit a row.

Must never build a model, nor hand out more than the block that was asked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch

from ks_lottery.checkpoint.wrappers import unwrapped
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

COMPARABLE = (
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
)
"""Types whose values are compared."""

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
            return cls(1, math.prod(shape), dtype, matrix=False)
        if transposed and len(shape) == 2:
            return cls(shape[1], shape[0], dtype, matrix=True, transposed=True)
        return cls(math.prod(shape[:-1]), shape[-1], dtype, matrix=True)


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


def module_of(tensor: str) -> str:
    """Return the name of the module that a tensor belongs to, without the modules around it and those that wrap it."""
    name = unwrapped(tensor)
    return name.split(".")[-2] if "." in name else ""


def cut(shapes: Mapping[str, tuple[tuple[int, ...], torch.dtype]], model_type: str) -> dict[str, Units]:
    """Return how each tensor of floats is cut into units; one without values is passed over.

    Parameters
    ----------
    shapes
        Name to shape and type.
    model_type
        As ``config.json`` has it; it tells which matrices are stored the other way round.
    """
    turned = CONV1D_NAMES if model_type in CONV1D_MODELS else ()
    return {
        name: Units.of(shape, dtype, transposed=module_of(name) in turned)
        for name, (shape, dtype) in shapes.items()
        if dtype in COMPARABLE and math.prod(shape)
    }


def find_embedding(
    units: Mapping[str, Units], where: str, unread: Mapping[str, str] | None = None, vocabulary: int | None = None
) -> str:
    """Return the input embedding: the matrix whose module is called like one, at the place where models have it.

    Embeddings inside a numbered layer, as layers that predict several tokens have, are not the model's; of the others the one
    with the fewest modules around it is. Where that does not decide, the number of rows does.

    Parameters
    ----------
    where
        What the error calls the model.
    unread
        Matrices whose values cannot be read, each with the reason.
    vocabulary
        Rows of the embedding as the model's config has them; None where that is not known.

    Raises
    ------
    UserError
        When there is none, more than one, or its values cannot be read.
    """
    unread = unread or {}
    names = _named([*_matrices(units), *unread], EMBEDDING_NAMES)
    if len(names) > 1 and vocabulary is not None:
        names = [name for name in names if name in units and units[name].count == vocabulary] or names
    if len(names) != 1:
        what = "no input embedding" if not names else f"several input embeddings ({', '.join(names)})"
        raise UserError(f"{where} has {what}: give a causal language model's checkpoint")
    if names[0] in unread:
        raise UserError(f"{where}: the input embedding {names[0]} {unread[names[0]]}")
    return names[0]


def find_head(units: Mapping[str, Units], where: str, embedding: str, unread: Mapping[str, str] | None = None) -> str:
    """Return the output embedding, or the input embedding where no other is stored: the two are tied.

    Raises
    ------
    UserError
        When there are several, or its values cannot be read.
    """
    unread = unread or {}
    names = _named([*_matrices(units), *unread], HEAD_NAMES)
    fitting = [name for name in names if name in unread or units[name].count == units[embedding].count]
    if len(fitting) > 1:
        raise UserError(
            f"{where} has several output embeddings ({', '.join(fitting)}): give a causal language model's checkpoint"
        )
    if not fitting:
        return embedding
    if fitting[0] in unread:
        raise UserError(f"{where}: the output embedding {fitting[0]} {unread[fitting[0]]}")
    return fitting[0]


def _matrices(units: Mapping[str, Units]) -> Iterable[str]:
    return [name for name, unit in units.items() if unit.matrix]


def _named(tensors: Iterable[str], modules: tuple[str, ...]) -> list[str]:
    """Return the tensors of such modules at the usual place: outside numbered layers, with the fewest modules around."""
    names = [name for name in tensors if module_of(name) in modules]
    leaves = {name: name.rpartition(".")[2] for name in names}  # a packed weight has scales beside it
    names = [n for n in names if leaves[n] == "weight"] or [n for n in names if "weight" in leaves[n]] or names
    outside = [name for name in names if not any(part.isdigit() for part in name.split("."))] or names
    if len({module_of(name) for name in outside}) > 1:  # by different names, as no one model has them
        return outside
    depth = min((unwrapped(name).count(".") for name in outside), default=0)
    return [name for name in outside if unwrapped(name).count(".") == depth]


def model_type(config: Mapping[str, Any]) -> str:
    """Return the type of a model by its config; empty where that does not say."""
    kind = config.get("model_type")
    return kind if isinstance(kind, str) else ""


def vocabulary_size(config: Mapping[str, Any]) -> int | None:
    """Return the rows of the embedding by the config, also that of the text part of a larger model; None where not known."""
    text = config.get("text_config")
    for known in (config, text if isinstance(text, dict) else {}):
        size = cast("dict[str, Any]", known).get("vocab_size")
        if type(size) is int:
            return size
    return None


def is_untied(config: Mapping[str, Any]) -> bool:
    """Say whether a config says that the output embedding is a matrix of its own; False where it does not say."""
    text = config.get("text_config")
    inner = cast("dict[str, Any]", text).get("tie_word_embeddings") if isinstance(text, dict) else None
    return config.get("tie_word_embeddings", inner) is False
