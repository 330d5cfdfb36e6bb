"""Weights that are stored as codes and not as values: they are refused by name, and their codes are never compared."""

from __future__ import annotations

import fnmatch
import math
from typing import TYPE_CHECKING, Any

from ks_lottery.checkpoint.headers import TensorEntry
from ks_lottery.checkpoint.tensors import COMPARABLE
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

LEAVES = ("weight", "qweight", "packed_weight", "weight_packed")
"""Last parts of the names of weights, packed ones included."""

ENDINGS = ("_blocks", "_packed", "_qweight")
"""Endings of the names of packed weights that have a longer name, as experts have."""


def packed_weights(tensors: Mapping[str, Any], quantization: Any = None) -> dict[str, str]:
    """Return the weights whose values cannot be read, each with the reason as the end of a sentence.

    Parameters
    ----------
    tensors
        Name to a tensor, or to where it lies.
    quantization
        ``quantization_config`` of the model's config, of any content.
    """
    by = method_of(quantization)
    return {
        name: f"is stored as {_type_name(entry)}{by}: {_kind(entry)} are not supported. "
        "Give the checkpoint before its quantisation"
        for name, entry in tensors.items()
        if _is_weight(name) and _is_code(entry) and math.prod(entry.shape)
    }


def method_of(quantization: Any) -> str:
    """Return by which method a model is quantised, as ``(gptq)`` after a space; empty where it does not say."""
    method = quantization.get("quant_method") if isinstance(quantization, dict) else None
    return f" ({method})" if isinstance(method, str) else ""


def empty_matrices(tensors: Mapping[str, Any]) -> dict[str, str]:
    """Return the matrices that have no rows or no columns, each with that as the end of a sentence."""
    return {
        name: f"is {' x '.join(map(str, entry.shape))}, and so has no values: get the file again"
        for name, entry in tensors.items()
        if len(entry.shape) > 1 and not math.prod(entry.shape)
    }


def check_values(source: Any, units: str, pattern: str | None) -> None:
    """Refuse to compare a model with packed weights as a whole: the codes would be passed over without a word.

    Parameters
    ----------
    source
        One side of a comparison.
    units
        What is compared; only ``matrix-rows`` and ``all`` look at more than the embeddings.
    pattern
        Glob pattern of the tensors to compare; None for all.

    Raises
    ------
    UserError
        When a packed weight is among them.
    """
    unread: Mapping[str, str] = getattr(getattr(source, "base", source), "packed", {})
    wanted = [name for name in unread if pattern is None or any(fnmatch.fnmatch(n, pattern) for n in _names(name))]
    if units in {"matrix-rows", "all"} and wanted:
        raise UserError(f"{source.name}: {wanted[0]} (one of {len(wanted):,}) {unread[wanted[0]]}, or choose `tensors`")


def _names(tensor: str) -> tuple[str, str]:
    """Return the name of a packed weight, and the one that it has when it is not packed."""
    return tensor, f"{tensor.rpartition('.')[0]}.weight"


def _is_weight(name: str) -> bool:
    leaf = name.rpartition(".")[2]
    return leaf in LEAVES or leaf.endswith(ENDINGS)


def _is_code(entry: Any) -> bool:
    return entry.dtype not in COMPARABLE


def _kind(entry: Any) -> str:
    floats = entry.dtype.is_floating_point or entry.dtype.is_complex
    return "values of this type" if floats else "packed weights"


def _type_name(entry: Any) -> str:
    return entry.type_name if isinstance(entry, TensorEntry) else str(entry.dtype).removeprefix("torch.")
