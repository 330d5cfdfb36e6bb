"""Weights in eight bits with scales beside them, as values: a weight is its stored number times the scale of its block.

The layouts are those of transformers (`FineGrainedFP8Config`, `FbgemmFp8Config`) and of compressed-tensors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from ks_lottery.checkpoint.codes import method_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import numpy.typing as npt

    from ks_lottery.checkpoint.headers import TensorEntry

EIGHT_BITS = (torch.float8_e4m3fn, torch.float8_e5m2)
"""Types of the stored numbers."""

SUFFIXES = ("_scale_inv", "_scale")
"""What is added to the name of a weight for the name of its scales; both are multiplied with the weight."""

OTHERS = ("input", "output", "activation", "k_", "v_", "q_", "prob")
"""Beginnings of the names of scales that belong to activations and not to the weight."""

EXPONENTS = (torch.uint8, torch.float8_e8m0fnu)
"""Types of scales that are powers of two, stored as their exponent plus 127."""

PIECE = 1 << 14
"""Values that are converted at a time: so few that torch does not divide the work among threads of its own."""


@dataclass(frozen=True)
class Scaling:
    """How one stored tensor becomes its values.

    Parameters
    ----------
    scales
        Name of the tensor of its scales.
    grid
        Number of scales along each axis of the tensor.
    block
        Length of a block along each axis of the tensor.
    shape
        Shape of the tensor.
    dtype
        Type of the values.
    """

    scales: str
    grid: tuple[int, ...]
    block: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: torch.dtype

    def values(self, stored: torch.Tensor, start: int, scales: torch.Tensor) -> torch.Tensor:
        """Return the values of some units.

        Parameters
        ----------
        stored
            The stored numbers of units from `start`, shape (units, width).
        scales
            All scales, in any shape.
        """
        # The leading axes of both are joined: a unit's block is found from its place along each of them.
        places = np.unravel_index(np.arange(start, start + len(stored)), self.shape[:-1])
        rows = np.zeros(len(stored), dtype=np.int64)
        for place, block, count in zip(places, self.block, self.grid, strict=False):
            rows = rows * count + place // block
        columns = np.arange(self.shape[-1]) // self.block[-1]
        picked = _float32(scales).reshape(-1, self.grid[-1])[rows]
        with np.errstate(over="ignore", invalid="ignore"):  # what is infinite or NaN, the scan reports
            values = _float32(stored) * picked[:, columns]
        return _as_type(torch.from_numpy(values), self.dtype)


def scalings(
    tensors: Mapping[str, TensorEntry], config: Mapping[str, Any]
) -> tuple[dict[str, Scaling], dict[str, str]]:
    """Return how the tensors with scales become their values, and why that is not known of others.

    Parameters
    ----------
    config
        The model's config: the length of blocks, and the type of the values.

    Returns
    -------
    scaled
        Name of a tensor to how its numbers become values.
    unread
        Name of a quantised tensor without scales, or with some that are not understood, to that as the end of a sentence.
    """
    about = config.get("quantization_config")
    blocks = tuple(_block_sizes(about))
    wanted = config.get("dtype", config.get("torch_dtype"))
    dtype = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}.get(str(wanted))
    siblings: dict[str, list[str]] = {}
    for name in tensors:
        if _is_scale(name):
            siblings.setdefault(name.rpartition(".")[0], []).append(name)
    scaled: dict[str, Scaling] = {}
    unread: dict[str, str] = {}
    for name, entry in tensors.items():
        if entry.dtype not in EIGHT_BITS:
            continue
        found = next((name + suffix for suffix in SUFFIXES if name + suffix in tensors), None)
        near = siblings.get(name.rpartition(".")[0], [])
        strange = [other for other in near if other != found and _may_scale(name, other)]
        scaling = None if found is None else _scaling(entry, found, tensors[found], blocks, dtype)
        problem = ""
        if strange:
            problem = f"{strange[0]}, which is not understood"
        elif found is None:
            problem = "no scales" if method_of(about) and len(entry.shape) > 1 else ""
        elif scaling is None:
            sides = [" x ".join(map(str, shape)) for shape in (tensors[found].shape, entry.shape)]
            problem = f"scales of {sides[0]}, which do not fit its {sides[1]}"
        if problem:
            unread[name] = (
                f"is quantised{method_of(about)} and has {problem}: give the checkpoint before its quantisation"
            )
        elif scaling is not None:
            scaled[name] = scaling
    return scaled, unread


def scale_names(scaled: Mapping[str, Scaling], tensors: Iterable[str]) -> set[str]:
    """Return the tensors that are part of how weights are stored, and no weights themselves."""
    if not scaled:
        return set()
    scales = {scaling.scales for scaling in scaled.values()}
    modules = {name.rpartition(".")[0] for name in scaled}
    return {
        name for name in tensors if name in scales or (name.rpartition(".")[0] in modules and _of_activations(name))
    }


def _scaling(
    entry: TensorEntry, name: str, scales: TensorEntry, blocks: tuple[tuple[int, ...], ...], dtype: torch.dtype | None
) -> Scaling | None:
    """Return how a tensor becomes its values; None where its scales do not fit it."""
    shape, grid = entry.shape, scales.shape
    if math.prod(grid) == 1:
        grid = (1,) * len(shape)
    grid += (1,) * (len(shape) - len(grid))
    block = next((tuple(size) for size in _sizes(shape, grid, blocks) if _fits(shape, grid, size)), None)
    if block is None or not (scales.dtype.is_floating_point or scales.dtype in EXPONENTS) or len(shape) < 2:
        return None
    exact = scales.dtype.is_floating_point and scales.dtype.itemsize >= 2
    return Scaling(name, grid, block, shape, dtype or (scales.dtype if exact else torch.bfloat16))


def _sizes(shape: tuple[int, ...], grid: tuple[int, ...], blocks: tuple[tuple[int, ...], ...]) -> Iterator[list[int]]:
    """Yield the lengths that a block may have: those that the config names, and those that divide the tensor evenly."""
    if len(shape) != len(grid):
        return
    for known in blocks:
        if len(known) <= len(shape):
            inner = [*(1 for _ in shape[: len(shape) - len(known)]), *known]
            # An axis with a single scale has one block of any length.
            yield [n if count == 1 else size for n, count, size in zip(shape, grid, inner, strict=True)]
    if all(count and n % count == 0 for n, count in zip(shape, grid, strict=True)):
        yield [n // count for n, count in zip(shape, grid, strict=True)]


def _fits(shape: tuple[int, ...], grid: tuple[int, ...], block: list[int]) -> bool:
    return all(size and -(-n // size) == count for n, count, size in zip(shape, grid, block, strict=True))


def _block_sizes(about: Any) -> Iterator[tuple[int, ...]]:
    """Yield the block lengths that a quantisation config names, of rows and columns."""
    if not isinstance(about, dict):
        return
    known = cast("dict[str, Any]", about)
    groups = known.get("config_groups")
    values: list[Any] = [known.get("weight_block_size")]
    for group in cast("dict[str, Any]", groups).values() if isinstance(groups, dict) else ():
        weights = cast("dict[str, Any]", group).get("weights") if isinstance(group, dict) else None
        if isinstance(weights, dict):
            values.append(cast("dict[str, Any]", weights).get("block_structure"))
    for value in values:
        if isinstance(value, list) and all(type(n) is int and n > 0 for n in cast("list[Any]", value)):
            yield tuple(cast("list[int]", value))


def _is_scale(name: str) -> bool:
    leaf = name.rpartition(".")[2]
    return "scale" in leaf or "zero_point" in leaf or leaf in {"SCB", "absmax"}


def _may_scale(weight: str, other: str) -> bool:
    """Say whether a scale of the same module may change what the stored numbers of `weight` mean."""
    leaf, stem = other.rpartition(".")[2], weight.rpartition(".")[2]
    # A module such as a layer's experts has several weights, each with scales of its own.
    own = stem == "weight" or leaf.startswith(stem)
    return own and not _of_activations(other)


def _of_activations(name: str) -> bool:
    leaf = name.rpartition(".")[2]
    return "scale" in leaf and leaf.startswith(OTHERS)


def _float32(values: torch.Tensor) -> npt.NDArray[np.float32]:
    """Return values as float32, in the calling thread alone; those of one byte by a table of all their values."""
    if values.dtype.itemsize > 1:
        return _as_type(values, torch.float32).numpy()
    table = torch.arange(256, dtype=torch.int16).to(torch.uint8)
    known = table.view(torch.float8_e8m0fnu if values.dtype in EXPONENTS else values.dtype).float().numpy()
    return known[values.view(torch.uint8).numpy()]


def _as_type(values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return values in another type, converted in the calling thread alone."""
    if values.dtype == dtype:
        return values
    result = torch.empty(values.shape, dtype=dtype)
    target, source = result.view(-1), values.reshape(-1)
    for start in range(0, len(source), PIECE):
        target[start : start + PIECE] = source[start : start + PIECE]
    return result
