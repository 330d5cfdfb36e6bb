"""What a scan compares with what: the tensors of two models, cut into blocks of units."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from ks_lottery.checkpoint.adapter import AdaptedCheckpoint
from ks_lottery.checkpoint.added_tokens import refuse_new_tokens
from ks_lottery.checkpoint.patch import RowPatch
from ks_lottery.checkpoint.reader import Checkpoint
from ks_lottery.config.choices import COMPARISONS, UNITS
from ks_lottery.errors import UserError
from ks_lottery.store.manifest import located
from ks_lottery.tickets.integers import differing_integers
from ks_lottery.tickets.renaming import is_buffer, renamed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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


@dataclass(frozen=True)
class Pairing:
    """What is compared, and what is not.

    Parameters
    ----------
    pairs
        Two tensors each.
    matched
        Of those, name in the base to name in the tuned model where the two differ by a known prefix.
    only_in_base, only_in_tuned
        Tensors that one side alone has.
    unequal
        Tensors that have another shape on each side.
    integers
        Tensors that are not of floats and not the same on both sides.
    """

    pairs: list[TensorPair]
    matched: dict[str, str] = field(default_factory=dict[str, str])
    only_in_base: list[str] = field(default_factory=list[str])
    only_in_tuned: list[str] = field(default_factory=list[str])
    unequal: list[str] = field(default_factory=list[str])
    integers: list[str] = field(default_factory=list[str])

    def as_settings(self) -> dict[str, Any]:
        """Return the names, as the settings of a scan have them."""
        return {name: value for name, value in vars(self).items() if name != "pairs"}


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


def pairing_of(base: Source, tuned: Source, units: str, pattern: str | None, compare_as: str | None = None) -> Pairing:
    """Return what is compared with what, and the tensors that are not compared.

    Parameters
    ----------
    pattern
        Glob pattern: only tensors whose name matches are compared, or counted as not compared.
    compare_as
        Type of two checkpoints that stand alone: ``coarser``, the default, or ``float32``.

    Raises
    ------
    UserError
        When nothing can be compared, or a setting is not known.
    """
    if compare_as is not None and compare_as not in COMPARISONS:
        raise UserError(f"compare_as {compare_as} is not known; there are {', '.join(COMPARISONS)}")
    if units not in UNITS:
        raise UserError(f"units {units} is not known; there are {', '.join(UNITS)}")
    exact = compare_as == "float32"
    if units in {"embedding", "output"}:
        names = _vocabulary_names(base, tuned, units)
        if not _matches(names[0], pattern):
            raise _nothing(base, tuned, pattern)
        pair = _pair(base, tuned, *names, exact=exact)
        if pair is None:
            raise _unequal(base, tuned, *names)
        return Pairing([pair])
    names, matched, alone = _every_name(base, tuned, units)
    chosen = [wanted for wanted in names if _matches(wanted[0], pattern)]
    if not chosen:
        raise _nothing(base, tuned, pattern)
    pairs = {wanted: _pair(base, tuned, *wanted, exact=exact) for wanted in chosen}
    unequal = [wanted for wanted, pair in pairs.items() if pair is None]
    if len(unequal) == len(chosen):
        raise _unequal(base, tuned, *unequal[0])
    return Pairing(
        pairs=[pair for pair in pairs.values() if pair is not None],
        matched={before: after for name, before, after in chosen if name in matched},
        only_in_base=[name for name in alone[0] if _matches(name, pattern)],
        only_in_tuned=[name for name in alone[1] if _matches(name, pattern)],
        unequal=[wanted[0] for wanted in unequal],
        integers=[name for name in differing_integers(base, tuned) if _matches(name, pattern)]
        if units == "all"
        else [],
    )


def _matches(name: str, pattern: str | None) -> bool:
    return pattern is None or fnmatch.fnmatch(name, pattern)


def _nothing(base: Source, tuned: Source, pattern: str | None) -> UserError:
    what = f"tensor matches {pattern}" if pattern else "tensor is in both"
    return UserError(f"{base.name} and {tuned.name}: no {what}, so there is nothing to compare")


def _unequal(base: Source, tuned: Source, name: str, before: str, after: str) -> UserError:
    a, b = base.units[before], tuned.units[after]
    return UserError(
        f"tensor {name} is {a.count:,} x {a.width:,} in {base.name} and {b.count:,} x {b.width:,} in {tuned.name}: "
        "they cannot be compared unit by unit"
    )


def _vocabulary_names(base: Source, tuned: Source, units: str) -> tuple[str, str, str]:
    if units == "embedding":
        return base.embedding, base.embedding, tuned.embedding
    for source in (base, tuned):
        if _has_no_head(source):
            raise UserError(f"{source.name} has no output embedding: give a causal language model's checkpoint")
    return tuned.head if base.head == base.embedding else base.head, base.head, tuned.head


def _every_name(
    base: Source, tuned: Source, units: str
) -> tuple[list[tuple[str, str, str]], set[str], tuple[list[str], list[str]]]:
    """Return what can be compared (its own name and those on both sides), what was renamed, and what one side alone has."""
    sides = [
        {name: unit for name, unit in source.units.items() if unit.matrix or units == "all"} for source in (base, tuned)
    ]
    names = {(name, name, name) for name in sides[0] if name in sides[1]}
    rest = [{n: u for n, u in side.items() if n not in other} for side, other in (sides, sides[::-1])]
    matched = renamed(rest[0], rest[1])
    names |= {(before, before, after) for before, after in matched.items()}
    alone = (set(rest[0]) - set(matched), set(rest[1]) - set(matched.values()))
    if has_text(base) and has_text(tuned):  # a head that one side ties to its embedding is compared with that embedding
        if tuned.head in alone[1] and base.head == base.embedding and not _has_no_head(base):
            names.add((tuned.head, base.head, tuned.head))
            alone[1].remove(tuned.head)
        elif base.head in alone[0] and tuned.head == tuned.embedding and not _has_no_head(tuned):
            names.add((base.head, base.head, tuned.head))
            alone[0].remove(base.head)
    weights = [
        sorted(name for name in side if not is_buffer(name, source.units[name]))
        for side, source in zip(alone, (base, tuned), strict=True)
    ]
    return sorted(names), set(matched), (weights[0], weights[1])


def _has_no_head(source: Source) -> bool:
    """Say whether a model lacks the output embedding that its config speaks of; a head that an adapter makes is one."""
    stored = source.base if isinstance(source, AdaptedCheckpoint) else source
    return isinstance(stored, Checkpoint) and stored.has_no_head and source.head == source.embedding


def _pair(base: Source, tuned: Source, name: str, before: str, after: str, *, exact: bool) -> TensorPair | None:
    """Return how two tensors are compared; None where their shapes do not allow it."""
    a, b = base.units[before], tuned.units[after]
    vocabulary = a.matrix and has_text(base) and before in {base.embedding, base.head}
    if a.width != b.width or a.matrix != b.matrix or (a.count != b.count and not vocabulary):
        return None
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


def changed_elsewhere(tuned: Source, pairs: Sequence[TensorPair]) -> int | None:
    """Return how many tensors an adapter or a patch changes that were not compared; None for a checkpoint that stands alone."""
    if not isinstance(tuned, AdaptedCheckpoint):
        return None
    compared = {pair.after for pair in pairs}
    return sum(name not in compared and tuned.is_changed(name) for name in tuned.overlays)


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


def compared_from(base: Source, tuned: Source | RowPatch, units: str) -> dict[str, Any]:
    """Return what a comparison is made from, for its manifest; a patch is checked against its base.

    Raises
    ------
    UserError
        When a patch belongs to another base, or does not change what is compared.
    """
    if not isinstance(tuned, RowPatch):
        return {"base": {"name": located(base.name)}, "tuned": {"name": located(tuned.name)}}
    if tuned.side == "output" and units == "embedding":
        raise UserError("the patch changes the output embedding alone: scan it with units output")
    if tuned.added is not None and tuned.added.grows:
        refuse_new_tokens(
            tuned.added, "whose rows the base does not have, so that nothing can be compared: scan another patch"
        )
    if isinstance(base, Checkpoint):
        tuned.check_base(base)
    else:
        tuned.check_rows(base)
    return {"base": dict(tuned.base), "patch": tuned.content}
