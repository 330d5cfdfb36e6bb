"""What fine-tuning changed: for each unit of two checkpoints, the exact KS count, how far it moved, and the rival scores.

Must never hold a tensor whole: units are read in blocks, each once, and units that a patch leaves alone are not read at all.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from xxhash import xxh3_128_digest

from ks_lottery.checkpoint.adapter import AdaptedCheckpoint
from ks_lottery.checkpoint.patch import RowPatch
from ks_lottery.checkpoint.reader import Checkpoint
from ks_lottery.errors import UserError
from ks_lottery.stats.kernels import threads
from ks_lottery.stats.ks import INFINITY_BITS, WIDEST, bits, count_block, ks_counts
from ks_lottery.stats.moves import MOVES, row_moves, row_moves_16
from ks_lottery.tickets.scan import Part, Scan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import numpy.typing as npt

    from ks_lottery.checkpoint.source import Source

BLOCK_BYTES = 4 << 20
"""Bytes of float32 of one side that a thread works on at a time."""

UNITS = ("embedding", "output", "matrix-rows", "all")
"""``embedding``: rows of the input embedding. ``output``: rows of the output embedding. ``matrix-rows``: rows of every matrix.
``all``: those, and every vector as one unit."""

COARSENESS = (
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
)
"""Types by falling precision."""


@dataclass(frozen=True)
class _Pair:
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
class _Block:
    """Some units of a pair: all of ``ids``, or ``start`` to ``stop`` where that is None."""

    pair: int
    start: int
    stop: int
    ids: npt.NDArray[np.int64] | None = None


def scan_sources(
    base: Source,
    tuned: Source | RowPatch,
    *,
    units: str = "embedding",
    tensors: str | None = None,
    tick: Callable[[int, int], None] | None = None,
) -> Scan:
    """Test each unit, before against after (section 3.1 of the paper): two-sample KS over its coordinates.

    Two checkpoints that were stored independently are rounded to the coarser of their types first, since otherwise rounding
    alone counts as change; a patch or an adapter over the base is compared in float32, where its small moves are. Where the
    embeddings have different numbers of rows the common ones are compared.

    Under ``torchrun`` or ``accelerate launch`` the blocks are shared out among the processes; each gets the whole scan.

    Parameters
    ----------
    units
        One of `UNITS`.
    tensors
        Glob pattern: only tensors whose name matches.
    tick
        Called with blocks done and blocks in all.

    Raises
    ------
    UserError
        When the two do not fit each other, nothing is left to compare, or a unit holds NaN.
    """
    made: dict[str, Any] = {"base": {"name": base.name}, "tuned": {"name": getattr(tuned, "name", "patch")}}
    if isinstance(tuned, RowPatch):
        if tuned.side == "output" and units == "embedding":
            raise UserError("the patch changes the output embedding alone: scan it with units output")
        if isinstance(base, Checkpoint):
            tuned.check_base(base)
        made = {"base": dict(tuned.base), "patch": tuned.content}
    after: Source = AdaptedCheckpoint.of_patch(tuned, base) if isinstance(tuned, RowPatch) else tuned
    pairs, alone = _pairs(base, after, units, tensors)
    starts = np.concatenate([[0], np.cumsum([pair.count for pair in pairs])])
    columns = _columns(int(starts[-1]))
    blocks = list(_blocks(pairs))
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    mine = range(rank, len(blocks), world)
    found: dict[int, tuple[dict[str, npt.NDArray[Any]], bytes]] = {}
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # one block a thread; a block's own work is not split further
    try:
        with ThreadPoolExecutor(threads()) as pool:
            for index, result in zip(
                mine, pool.map(lambda i: _compare(base, after, pairs[blocks[i].pair], blocks[i]), mine), strict=True
            ):
                found[index] = result
                if tick:
                    tick(len(found), len(mine))
    finally:
        torch.set_num_threads(before)
    if world > 1:
        found = _gathered(found, world)
    digests: dict[str, Any] = {}
    for index, block in enumerate(blocks):
        values, digest = found[index]
        pair = pairs[block.pair]
        place = starts[block.pair] + (np.arange(block.start, block.stop) if block.ids is None else block.ids)
        for name, column in values.items():
            columns[name][place] = column
        digests.setdefault(pair.name, hashlib.sha256()).update(digest)
    content = {name: digest.hexdigest() for name, digest in digests.items()}
    parts = tuple(
        Part(pair.name, int(starts[i]), pair.count, pair.width, _type_name(pair.compared_as), pair.removed, pair.added)
        for i, pair in enumerate(pairs)
    )
    settings = {
        "units": units,
        "tensors": tensors,
        "vocabulary": [pair.name for pair in pairs if pair.before in {base.embedding, base.head}]
        if _has_text(base)
        else [],
        "only_in_base": alone[0],
        "only_in_tuned": alone[1],
    }
    return Scan(parts, **columns, made_from={**made, "compared": content}, settings=settings)


def _has_text(base: Source) -> bool:
    """Say whether a source is a language model, with rows that are tokens."""
    try:
        return bool(base.embedding)
    except UserError:
        return False


def _columns(count: int) -> dict[str, npt.NDArray[Any]]:
    """Return the columns of units that did not move."""
    columns: dict[str, npt.NDArray[Any]] = {name: np.zeros(count) for name in ("distance", "largest", "spread")}
    columns |= {name: np.zeros(count) for name in ("cos", "absolute", "kl")}
    columns |= {name: np.zeros(count, dtype=np.int64) for name in ("counts", "moved", "zeros")}
    return {**columns, "relative": np.ones(count)}


def _pairs(
    base: Source, tuned: Source, units: str, pattern: str | None
) -> tuple[list[_Pair], tuple[list[str], list[str]]]:
    """Return what is compared with what, and the tensors that only one side has."""
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
    kept = [names for names in wanted if pattern is None or fnmatch.fnmatch(names[0], pattern)]
    if not kept:
        what = f"tensor matches {pattern}" if pattern else "tensor stands in both"
        raise UserError(f"{base.name} and {tuned.name}: no {what}, so there is nothing to compare")
    return [_pair(base, tuned, *names) for names in kept], alone


def _pair(base: Source, tuned: Source, name: str, before: str, after: str) -> _Pair:
    a, b = base.units[before], tuned.units[after]
    vocabulary = a.matrix and _has_text(base) and before in {base.embedding, base.head}
    if a.width != b.width or (a.count != b.count and not vocabulary):
        raise UserError(
            f"tensor {name} is {a.count:,} x {a.width:,} in {base.name} and {b.count:,} x {b.width:,} in {tuned.name}: "
            "they cannot be compared unit by unit"
        )
    touched = tuned.changed(after)
    kind = max(a.dtype, b.dtype, key=COARSENESS.index) if touched is None else torch.float32
    common = min(a.count, b.count)
    return _Pair(name, before, after, common, a.width, kind, a.count - common, b.count - common, touched)


def _blocks(pairs: list[_Pair]) -> Iterable[_Block]:
    for index, pair in enumerate(pairs):
        size = max(1, BLOCK_BYTES // (4 * pair.width))
        for start in range(0, pair.count, size):
            stop = min(start + size, pair.count)
            if pair.touched is None:
                yield _Block(index, start, stop)
                continue
            ids = pair.touched[(pair.touched >= start) & (pair.touched < stop)]
            if len(ids):
                yield _Block(index, start, stop, ids)


def _compare(base: Source, tuned: Source, pair: _Pair, block: _Block) -> tuple[dict[str, npt.NDArray[Any]], bytes]:
    """Measure one block, and return its columns and what stands for the compared bytes: XXH3 of 128 bits of each side.

    It tells contents apart, at the speed of memory; nobody is kept from making two that agree, which SHA-256 would see to.
    """
    sides = [s.block(t, block.start, block.stop) for s, t in ((base, pair.before), (tuned, pair.after))]
    if block.ids is not None:
        keep = torch.from_numpy(block.ids - block.start)
        sides = [side[keep] for side in sides]
    raw = b"".join(xxh3_128_digest(_bytes(side)) for side in sides)
    a, b = (side.to(pair.compared_as) for side in sides)
    if pair.compared_as in COARSENESS[4:]:
        a, b = a.to(torch.float16), b.to(torch.float16)  # exact: a type of 8 bits fits into float16
    infinity = INFINITY_BITS.get(_type_name(a.dtype), 0)
    x, y = (bits(side) if infinity else side.numpy() for side in (a, b))
    counts = _counts_of_wide(a, b) if pair.width > WIDEST else count_block(x, y, infinity)
    if (counts < 0).any():
        place = int(np.flatnonzero(counts < 0)[0])
        row = block.start + place if block.ids is None else int(block.ids[place])
        raise UserError(
            f"{pair.name} of {base.name} or of {tuned.name} holds NaN in row {row}: the training diverged, or a file is damaged"
        )
    measured = np.empty((len(counts), len(MOVES)))
    if infinity:
        row_moves_16(x, y, infinity, measured)
    else:
        row_moves(x, y, measured)
    return {"counts": counts, **_moves(dict(zip(MOVES, measured.T, strict=True)), pair.width)}, raw


def _counts_of_wide(a: torch.Tensor, b: torch.Tensor) -> npt.NDArray[np.int64]:
    """Count what is too wide for the compiled loops; rows with NaN get -1 as there."""
    bad = (torch.isnan(a) | torch.isnan(b)).any(dim=1)
    counts = np.full(len(a), -1, dtype=np.int64)
    if not bool(bad.all()):
        counts[~bad.numpy()] = ks_counts(a[~bad], b[~bad])
    return counts


def _moves(measured: Mapping[str, npt.NDArray[np.float64]], width: int) -> dict[str, npt.NDArray[Any]]:
    """Return the columns of a scan from those of `row_moves`."""
    mean = measured["total"] / width
    deviation = np.sqrt(measured["variance"])
    still = measured["moved"] == 0
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.where(mean > 0, mean / deviation, 0.0)
        relative = measured["relative"] / measured["nonzero"]
    return {
        "moved": measured["moved"].astype(np.int64),
        "distance": np.sqrt(measured["squares"]),
        "largest": measured["largest"],
        "spread": spread,
        "zeros": width - measured["nonzero"].astype(np.int64),
        "cos": np.where(still, 0.0, measured["cosine"]),
        "absolute": mean,
        "relative": np.where(still, 1.0, relative),
        "kl": np.where(still, 0.0, measured["kl"]),
    }


def _bytes(tensor: torch.Tensor) -> Any:
    return tensor.contiguous().view(torch.uint8).numpy().data


def _type_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _gathered(found: dict[int, Any], world: int) -> dict[int, Any]:
    """Bring the blocks of all processes together, in each of them."""
    import torch.distributed as dist

    own = not dist.is_initialized()
    if own:
        dist.init_process_group("gloo")
    every: list[dict[int, Any]] = [{} for _ in range(world)]
    dist.all_gather_object(every, found)
    if own:
        dist.destroy_process_group()
    return {index: result for part in every for index, result in part.items()}
