"""What fine-tuning changed: for each unit of two checkpoints, the exact KS count, how far it moved, and the rival scores.

No tensor is in memory as a whole: units are read in blocks, each once, and units that a patch does not change are not read.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from xxhash import xxh3_128_digest

from ks_lottery.checkpoint.adapter import AdaptedCheckpoint, Overlay
from ks_lottery.checkpoint.patch import RowPatch
from ks_lottery.config.ticket_commands import ScanSettings
from ks_lottery.errors import UserError
from ks_lottery.stats.kernels import threads
from ks_lottery.stats.ks import INFINITY_BITS, WIDEST, bits, count_block, ks_counts
from ks_lottery.stats.moves import MOVES, row_moves, row_moves_16
from ks_lottery.tickets.pairs import COARSENESS, blocks_of, changed_elsewhere, compared_from, has_text, pairing_of
from ks_lottery.tickets.power import check_alpha
from ks_lottery.tickets.saved_quantiles import quantiles_of
from ks_lottery.tickets.scan import Part, Scan
from ks_lottery.tickets.shortfall import shortfall

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent.futures import Future

    import numpy.typing as npt

    from ks_lottery.checkpoint.tensors import Source
    from ks_lottery.tickets.pairs import TensorPair, UnitBlock

_Measured = tuple[dict[str, "npt.NDArray[Any]"], bytes]


def process_rank() -> int:
    """Return the number of this process among those that ``torchrun`` or ``accelerate launch`` started; 0 for one alone."""
    return int(os.environ.get("RANK", "0"))


def scan_sources(
    base: Source,
    tuned: Source | RowPatch,
    *,
    units: str = "embedding",
    tensors: str | None = None,
    alpha: float = 0.05,
    compare_as: str | None = None,
    quantile_rows: int = ScanSettings.quantile_rows,
    tick: Callable[[int, int], None] | None = None,
) -> Scan:
    """Test each unit, before against after (section 3.1 of the paper): two-sample KS over its coordinates.

    Two checkpoints that were stored independently are rounded to the coarser of their types first, since otherwise rounding
    alone counts as change; a patch or an adapter over the base is compared in float32, where its small moves are. Where the
    embeddings have different numbers of rows the common ones are compared. Where no unit has p < alpha, the moves are scaled
    and tested again (`shortfall`), and the settings of the scan say by which factor they fall short.

    Under ``torchrun`` or ``accelerate launch`` the blocks are shared out among the processes; each gets the whole scan.

    Parameters
    ----------
    units
        One of `ks_lottery.config.choices.UNITS`.
    tensors
        Glob pattern: only tensors whose name matches.
    alpha
        Significance level that the shortfall is measured for.
    compare_as
        One of `ks_lottery.config.choices.COMPARISONS` for two checkpoints; by default ``coarser``.
    quantile_rows
        Number of first units by p whose distributions the scan has.
    tick
        Called with blocks done and blocks in all.

    Raises
    ------
    UserError
        When the two do not fit each other, nothing is left to compare, or a unit holds NaN.
    """
    check_alpha(alpha)
    made_from = compared_from(base, tuned, units)
    after: Source = AdaptedCheckpoint.of_patch(tuned, base) if isinstance(tuned, RowPatch) else tuned
    pairing = pairing_of(base, after, units, tensors, compare_as)
    pairs = pairing.pairs
    starts = np.concatenate([[0], np.cumsum([pair.count for pair in pairs])])
    columns = _columns(int(starts[-1]))
    blocks = list(blocks_of(pairs))
    rank, world = process_rank(), int(os.environ.get("WORLD_SIZE", "1"))
    mine = range(rank, len(blocks), world)
    measured: dict[int, _Measured] = {}
    for index, result in _measure(base, after, pairs, blocks, mine):
        measured[index] = result
        if tick:
            tick(len(measured), len(mine))
    if world > 1:
        measured = _gathered(measured, world)
    digests: dict[str, Any] = {}
    for index, block in enumerate(blocks):
        values, digest = measured[index]
        pair = pairs[block.pair]
        place = starts[block.pair] + (np.arange(block.start, block.stop) if block.ids is None else block.ids)
        for name, column in values.items():
            columns[name][place] = column
        digests.setdefault(pair.name, hashlib.sha256()).update(digest)
    content = {name: digest.hexdigest() for name, digest in digests.items()}
    parts = tuple(
        Part(
            tensor=pair.name,
            start=int(starts[i]),
            count=pair.count,
            width=pair.width,
            compared_as=_type_name(pair.compared_as),
            removed=pair.removed,
            added=pair.added,
        )
        for i, pair in enumerate(pairs)
    )
    settings = {
        "units": units,
        "tensors": tensors,
        "vocabulary": [p.name for p in pairs if has_text(base) and p.before in {base.embedding, base.head}],
        **pairing.as_settings(),
        "elsewhere": changed_elsewhere(after, pairs),
    }
    every: dict[str, Any] = {"parts": parts, **columns, "settings": settings}
    result = Scan(**every, made_from={**made_from, "compared": content})
    result = replace(result, quantiles=quantiles_of(result, base, after, pairs, quantile_rows))
    short = shortfall(result, base, after, pairs, alpha)
    if short is None:
        return result
    if isinstance(tuned, RowPatch) and "learning_rate" in tuned.settings:
        short = {**short, "learning_rate": tuned.settings["learning_rate"]}
    return replace(result, settings={**settings, "shortfall": short})


def _columns(count: int) -> dict[str, npt.NDArray[Any]]:
    """Return the columns of units that did not move."""
    columns: dict[str, npt.NDArray[Any]] = {name: np.zeros(count) for name in ("distance", "largest", "spread")}
    columns |= {name: np.zeros(count) for name in ("cos", "absolute", "absolute_signed", "kl")}
    columns |= {name: np.zeros(count, dtype=np.int64) for name in ("counts", "moved", "zeros")}
    return {**columns, "relative": np.ones(count)}


def _measure(
    base: Source, tuned: Source, pairs: Sequence[TensorPair], blocks: Sequence[UnitBlock], mine: range
) -> Iterator[tuple[int, _Measured]]:
    """Yield what was measured of each block, in order; a block a thread, and only a few blocks in memory.

    Nothing that a thread calls is divided among further threads, so that no thread count of the process has to change. A side
    that is computed (a base with an adapter) is made here, in the calling thread, by torch and all of its threads.
    """
    workers = threads()
    running: deque[tuple[int, Future[_Measured]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for index in mine:
            block = blocks[index]
            pair = pairs[block.pair]
            overlay = tuned.overlays.get(pair.after) if isinstance(tuned, AdaptedCheckpoint) else None
            computed = overlay is not None and (overlay.left is not None or overlay.whole is not None)
            after = tuned.block(pair.after, block.start, block.stop) if computed else overlay
            running.append((index, pool.submit(_compare, base, tuned, pair, block, after)))
            while len(running) > 2 * workers:
                first, future = running.popleft()
                yield first, future.result()
        for index, future in running:
            yield index, future.result()


def _compare(
    base: Source, tuned: Source, pair: TensorPair, block: UnitBlock, after: torch.Tensor | Overlay | None
) -> _Measured:
    """Measure one block, and return its columns and what stands for the compared bytes: XXH3 of 128 bits of each side.

    It tells contents apart, at the speed of memory; unlike SHA-256 it does not resist somebody who makes two that agree.

    Parameters
    ----------
    after
        The block of `tuned` where the caller has computed it; the overlay where it only replaces rows; or None.
    """
    sides = [base.block(pair.before, block.start, block.stop)]
    if block.ids is not None:
        sides = [_picked(sides[0], block.ids - block.start)]
    if isinstance(after, Overlay) and block.ids is not None:
        sides.append(_replaced(after, block))
    else:
        whole = after if isinstance(after, torch.Tensor) else tuned.block(pair.after, block.start, block.stop)
        sides.append(whole if block.ids is None else _picked(whole, block.ids - block.start))
    raw = b"".join(xxh3_128_digest(_bytes(side).data) for side in sides)
    a, b = (_converted(side, pair.compared_as) for side in sides)
    if pair.compared_as in COARSENESS[4:]:
        a, b = (_converted(side, torch.float16) for side in (a, b))  # exact: a type of 8 bits fits into float16
    infinity = INFINITY_BITS.get(_type_name(a.dtype), 0)
    x, y = (bits(side) if infinity else side.numpy() for side in (a, b))
    counts = _counts_of_wide(a, b) if pair.width > WIDEST else count_block(x, y, infinity)
    if (counts < 0).any():
        place = int(np.flatnonzero(counts < 0)[0])
        row = block.start + place if block.ids is None else int(block.ids[place])
        raise UserError(
            f"{pair.name} of {base.name} or of {tuned.name} holds NaN in row {row}: the training diverged, or a file is damaged"
        )
    moves = np.empty((len(counts), len(MOVES)))
    if infinity:
        row_moves_16(x, y, infinity, moves)
    else:
        row_moves(x, y, moves)
    return {"counts": counts, **_moves(dict(zip(MOVES, moves.T, strict=True)), pair.width)}, raw


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
        "absolute_signed": measured["net"] / width,
        "relative": np.where(still, 1.0, relative),
        "kl": np.where(still, 0.0, measured["kl"]),
    }


PIECE = 1 << 14
"""Values that are converted at a time: so few that torch does not divide the work among threads of its own."""


def _converted(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return a tensor in another type, converted in the calling thread alone."""
    if tensor.dtype == dtype:
        return tensor
    result = torch.empty(tensor.shape, dtype=dtype)
    flat, values = result.view(-1), tensor.contiguous().view(-1)
    for start in range(0, len(values), PIECE):
        flat[start : start + PIECE] = values[start : start + PIECE]
    return result


def _picked(tensor: torch.Tensor, rows: npt.NDArray[np.int64]) -> torch.Tensor:
    """Return some rows of a tensor, copied in the calling thread alone."""
    return torch.from_numpy(_bytes(tensor)[rows]).view(tensor.dtype)


def _replaced(overlay: Overlay, block: UnitBlock) -> torch.Tensor:
    """Return the rows of an overlay that replaces those of a block, in the order of the block's ids."""
    if overlay.ids is None or overlay.rows is None:
        raise AssertionError("an overlay that replaces rows, without rows")
    inside = np.flatnonzero((overlay.ids >= block.start) & (overlay.ids < block.stop))
    order = inside[np.argsort(overlay.ids[inside], kind="stable")]
    return _converted(_picked(overlay.rows, order), torch.float32)


def _bytes(tensor: torch.Tensor) -> npt.NDArray[np.uint8]:
    """Return the bytes of each row."""
    return tensor.contiguous().view(torch.uint8).numpy()


def _type_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _gathered(measured: dict[int, Any], world: int) -> dict[int, Any]:
    """Bring the blocks of all processes together, in each of them."""
    import torch.distributed as dist

    own = not dist.is_initialized()
    if own:
        dist.init_process_group("gloo")
    every: list[dict[int, Any]] = [{} for _ in range(world)]
    dist.all_gather_object(every, measured)
    if own:
        dist.destroy_process_group()
    return {index: result for part in every for index, result in part.items()}
