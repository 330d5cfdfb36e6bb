"""Compiled loops over rows that count the KS distance without a sort; they run without the interpreter's lock."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from collections.abc import Callable

NAN = -1
"""Count of a row that holds NaN."""

BUCKET = 5
"""Bits of a 16-bit key inside a coarse bucket; 32 keys fill a cache line."""


def compiled(**options: Any) -> Callable[[Any], Any]:
    """Compile without the interpreter's lock, and keep what was compiled where a folder for it can be written."""

    def wrap(function: Any) -> Any:
        try:
            return njit(nogil=True, cache=True, **options)(function)
        except RuntimeError:
            return njit(nogil=True, **options)(function)

    return wrap


@compiled()
def count_16(a: Any, b: Any, infinity: Any, counts: Any) -> None:
    """Count rows of 16-bit floats given as their bits, uint16 of shape (rows, d), into `counts`.

    Bits map to 65,536 keys in the order of the floats, both zeros to one. A histogram over them of +1 for `a` and -1 for `b`,
    summed up, is the difference of the counts at the end of each run of equal values: exact under any ties, no sort. A
    coarse bucket is opened only if it could hold the largest difference.

    Parameters
    ----------
    infinity
        Bits of +infinity; larger magnitudes are NaN, and give `NAN`. d is at most 32,767: counts are held in 16 bits.
    """
    rows, d = a.shape
    fine = np.zeros(65_536 + (1 << BUCKET), np.int16)
    coarse = np.zeros((65_536 >> BUCKET) + 1, np.int64)
    for r in range(rows):
        x = a[r]
        y = b[r]
        changed = 0
        nan = 0
        for i in range(d):
            changed |= x[i] ^ y[i]
            nan |= ((x[i] & 0x7FFF) > infinity) | ((y[i] & 0x7FFF) > infinity)
        if nan or changed == 0:
            counts[r] = NAN if nan else 0
            continue
        for i in range(d):
            u = x[i]
            key = 0x8000 - (u & 0x7FFF) if u & 0x8000 else 0x8000 + u
            fine[key] += 1
            coarse[key >> BUCKET] += 1
            v = y[i]
            key = 0x8000 - (v & 0x7FFF) if v & 0x8000 else 0x8000 + v
            fine[key] -= 1
            coarse[key >> BUCKET] += 65_536
        level = 0
        best = 0
        for c in range(len(coarse)):
            if coarse[c]:
                level += (coarse[c] & 0xFFFF) - (coarse[c] >> 16)
                best = max(best, abs(level))
        level = 0
        for c in range(len(coarse)):
            if coarse[c]:
                up = coarse[c] & 0xFFFF
                down = coarse[c] >> 16
                coarse[c] = 0
                if level + up > best or down - level > best:
                    inside = level
                    for key in range(c << BUCKET, (c + 1) << BUCKET):
                        inside += fine[key]
                        best = max(best, abs(inside))
                fine[c << BUCKET : (c + 1) << BUCKET] = 0
                level += up - down
        counts[r] = best


@compiled()
def count_floats(a: Any, b: Any, buckets: Any, counts: Any) -> None:
    """Count rows of float32 or float64, shape (rows, d), into `counts`.

    Each value falls into one of `buckets` by a monotone map: scaled by the mean and spread of the row, cut off at 3.5 of them.
    The difference of the counts is exact at the end of each bucket; inside, it can exceed the largest of those only in buckets
    that hold enough values, and only their members are sorted. Which map is taken changes the time, never the count.
    """
    rows, d = a.shape
    kind = a.dtype.type
    zero, top = kind(0), kind(buckets - 1)
    tally = np.zeros(buckets, np.int64)
    place = np.zeros(2 * d, np.int32)
    begin = np.zeros(buckets + 1, np.int64)
    for r in range(rows):
        x = a[r]
        y = b[r]
        total = 0.0
        squares = 0.0
        changed = 0
        nan = 0
        for i in range(d):
            changed |= x[i] != y[i]
            nan |= (x[i] != x[i]) | (y[i] != y[i])  # NaN is what differs from itself
            total += x[i]
            squares += np.float64(x[i]) * x[i]
        if nan or not changed:
            counts[r] = NAN if nan else 0
            continue
        spread = np.sqrt(max(squares / d - (total / d) ** 2, 0.0))
        low = kind(total / d - 3.5 * spread)
        scale = kind(buckets / (7.0 * spread)) if spread > 0 else zero
        if not (np.isfinite(low) and np.isfinite(scale) and scale > zero):
            low, scale = zero, kind(1)
        for i in range(d):
            place[i] = np.int32(min(max((x[i] - low) * scale, zero), top))
            place[d + i] = np.int32(min(max((y[i] - low) * scale, zero), top))
        for i in range(d):
            tally[place[i]] += 1
            tally[place[d + i]] += 65_536
        level = 0
        best = 0
        for c in range(buckets):
            level += (tally[c] & 0xFFFF) - (tally[c] >> 16)
            best = max(best, abs(level))
        level = 0
        opened = 0
        members = 0
        for c in range(buckets):
            up = tally[c] & 0xFFFF
            down = tally[c] >> 16
            tally[c] = 0
            if up + down > 1 and (level + up > best or down - level > best):
                opened += 1
                tally[c] = opened
                begin[opened] = level
                members += up + down
            level += up - down
        if opened:
            best = _open_buckets(x, y, place, tally, begin, members, best)
            tally[:] = 0
        counts[r] = best


@compiled()
def _open_buckets(x: Any, y: Any, place: Any, opened: Any, begin: Any, members: Any, best: Any) -> Any:
    """Sort the members of the opened buckets and read the difference at the end of each run of equal values."""
    d = len(x)
    value = np.empty(members, x.dtype)
    number = np.empty(members, np.int64)
    sign = np.empty(members, np.int64)
    n = 0
    for i in range(2 * d):
        if opened[place[i]]:
            value[n] = x[i] if i < d else y[i - d]
            number[n] = opened[place[i]]
            sign[n] = 1 if i < d else -1
            n += 1
    order = np.argsort(value)
    level = 0
    current = 0
    for p in range(n):
        q = order[p]
        if number[q] != current:
            current = number[q]
            level = begin[current]
        level += sign[q]
        if p + 1 == n or value[order[p + 1]] != value[q]:
            best = max(best, abs(level))
    return best


def threads() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
