"""What a scan compares with what: the tensors of two models, cut into blocks of units."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ks_lottery.config.choices import COMPARISONS, UNITS
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    import numpy.typing as npt

    from ks_lottery.checkpoint.tensors import Source

BLOCK_BYTES = 4 << 20
"""Bytes of float32 of one side in a block."""

COARSENESS = (
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
)
"""Types by falling precision."""


@dataclass(frozen=True, kw_only=True)
class TensorPair:
    """Two tensors to compare: name of the part, tensors on both sides, and how they are cut."""

    name: str
    before: str
    after: str
    count: int
    width: int
    compared_as: torch.dtype
    removed: int
    added: int
    touched: npt.NDArray[np.int64] | None


@dataclass(frozen=True, kw_only=True)
class UnitBlock:
    """Some units of a pair: all of ``ids``, or ``start`` to ``stop`` where that is None."""

    pair: int
    start: int
    stop: int
    ids: npt.NDArray[np.int64] | None = None


def has_text(base: Source) -> bool:
    """Say whether a source is a language model, with rows that are tokens."""
    try:
        return bool(base.embedding)
    except UserError:
        return False


def pairs_of(
    base: Source, tuned: Source, units: str, pattern: str | None, compare_as: str | None = None
) -> tuple[list[TensorPair], tuple[list[str], list[str]]]:
    """Return what is compared with what, and the tensors that only one side has.

    Parameters
    ----------
    compare_as
        Type of two checkpoints that stand alone: ``coarser``, the default, or ``float32``.
    """
    if compare_as is not None and compare_as not in COMPARISONS:
        raise UserError(f"compare_as {compare_as} is not known; there are {', '.join(COMPARISONS)}")
    if units not in UNITS:
        raise UserError(f"units {units} is not known; there are {', '.join(UNITS)}")
    wanted: Iterable[tuple[str, str, str]]
    alone: tuple[list[str], list[str]] = ([], [])
    if units == "embedding":
        wanted = [(base.embedding, base.embedding, tuned.embedding)]
    elif units == "output":
        wanted = [(tuned.head if base.head == base.embedding else base.head, base.head, tuned.head)]
    else:
        names = [name for name, unit in base.units.items() if unit.matrix or units == "all"]
        wanted = [(name, name, name) for name in sorted(names) if name in tuned.units]
        alone = (
            sorted(set(base.units) - set(tuned.units)),
            sorted(set(tuned.units) - set(base.units)),
        )
    chosen = [names for names in wanted if pattern is None or fnmatch.fnmatch(names[0], pattern)]
    if not chosen:
        what = f"tensor matches {pattern}" if pattern else "tensor stands in both"
        raise UserError(f"{base.name} and {tuned.name}: no {what}, so there is nothing to compare")
    return [_pair(base, tuned, *names, exact=compare_as == "float32") for names in chosen], alone


def _pair(base: Source, tuned: Source, name: str, before: str, after: str, *, exact: bool) -> TensorPair:
    a, b = base.units[before], tuned.units[after]
    vocabulary = a.matrix and has_text(base) and before in {base.embedding, base.head}
    if a.width != b.width or (a.count != b.count and not vocabulary):
        raise UserError(
            f"tensor {name} is {a.count:,} x {a.width:,} in {base.name} and {b.count:,} x {b.width:,} in {tuned.name}: "
            "they cannot be compared unit by unit"
        )
    touched = tuned.changed(after)
    kind = max(a.dtype, b.dtype, key=COARSENESS.index) if touched is None and not exact else torch.float32
    common = min(a.count, b.count)
    return TensorPair(
        name=name,
        before=before,
        after=after,
        count=common,
        width=a.width,
        compared_as=kind,
        removed=a.count - common,
        added=b.count - common,
        touched=touched,
    )


def blocks_of(pairs: list[TensorPair]) -> Iterable[UnitBlock]:
    """Yield the blocks of all pairs; units that a patch does not change are in none."""
    for index, pair in enumerate(pairs):
        size = max(1, BLOCK_BYTES // (4 * pair.width))
        for start in range(0, pair.count, size):
            stop = min(start + size, pair.count)
            if pair.touched is None:
                yield UnitBlock(pair=index, start=start, stop=stop)
                continue
            ids = pair.touched[(pair.touched >= start) & (pair.touched < stop)]
            if len(ids):
                yield UnitBlock(pair=index, start=start, stop=stop, ids=ids)
