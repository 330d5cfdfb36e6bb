"""Compiled loops that measure how far each row moved, in float64 without cancellation, and the rival scores of the paper."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from ks_lottery.stats.kernels import compiled

MOVES = ("moved", "squares", "total", "largest", "variance", "cosine", "relative", "nonzero", "kl", "net")
"""Columns of `row_moves`."""


@intrinsic
def _double(typingctx: Any, bits: Any) -> Any:  # noqa: ARG001 (numba's signature)
    """Read 64 bits as a double."""
    from llvmlite import ir

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(types.int64), codegen


@intrinsic
def _bits(typingctx: Any, value: Any) -> Any:  # noqa: ARG001 (numba's signature)
    """Return a double as its 64 bits."""
    from llvmlite import ir

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        return builder.bitcast(arguments[0], ir.IntType(64))

    return types.int64(types.float64), codegen


@njit(inline="always")
def _order(x: Any) -> Any:
    """Return an integer that orders doubles as they are ordered; its own inverse. A maximum of integers vectorises."""
    bits: Any = _bits
    key = bits(x)
    return key ^ ((key >> 63) & 0x7FFFFFFFFFFFFFFF)


@njit(inline="always")
def _exp(x: Any) -> Any:
    """Return e^x for -700 <= x <= 700, within two units in the last place, in a form that vectorises.

    2^n times the Taylor polynomial of degree 13 of the remainder, which is at most ln(2)/2 (Cody and Waite's reduction).
    """
    n = np.floor(x * 1.4426950408889634 + 0.5)
    r = (x - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10
    p = 1.6059043836821613e-10
    p = p * r + 2.08767569878681e-09
    p = p * r + 2.505210838544172e-08
    p = p * r + 2.755731922398589e-07
    p = p * r + 2.7557319223985893e-06
    p = p * r + 2.48015873015873e-05
    p = p * r + 1.984126984126984e-04
    p = p * r + 1.388888888888889e-03
    p = p * r + 8.333333333333333e-03
    p = p * r + 4.1666666666666664e-02
    p = p * r + 1.6666666666666666e-01
    p = p * r + 0.5
    p = p * r + 1.0
    p = p * r + 1.0
    double: Any = _double  # numba fills in the first argument
    return p * double((np.int64(n) + 1023) << 52)


NEAR = 0.03
"""Below this the series of `_near` is exact to the last place, and e^z - 1 - z would cancel."""


@njit(inline="always")
def _near(z: Any) -> Any:
    """Return e^z - 1 - z for |z| < `NEAR`, by its series."""
    return z * z * (
        0.5 + z * (1 / 6 + z * (1 / 24 + z * (1 / 120 + z * (1 / 720 + z * (1 / 5040 + z * (1 / 40320 + z / 362880))))))
    )  # fmt: skip


@njit(inline="always")
def _beyond_linear(z: Any) -> Any:
    """Return e^z - 1 - z, without cancellation where z is small."""
    return _near(z) if abs(z) < NEAR else _exp(max(min(z, 700.0), -700.0)) - 1.0 - z


FAST = {"reassoc", "contract", "nsz"}
"""What the compiler may do to vectorise the sums: NaN and infinities keep their meaning."""


# Inlined: as a function of its own it would be compiled to other roundings when it comes from the cache.
@njit(inline="always", fastmath=FAST)
def _measure(x: Any, y: Any, weights: Any, out: Any) -> None:  # noqa: PLR0915 (one loop, by design)
    """Fill `out`, shape (10,), with the columns `MOVES` of one row; `weights` is room for d numbers."""
    d = len(x)
    moved = 0
    squares = 0.0
    total = 0.0
    high = 0
    before = 0.0
    after = 0.0
    cross = 0.0
    mean = 0.0
    for i in range(d):
        u = np.float64(x[i])
        v = np.float64(y[i])
        w = v - u
        moved += u != v
        squares += w * w
        total += abs(w)
        high = max(high, _order(abs(w)))
        before += u * u
        after += v * v
        cross += w * (u + v)
        mean += u
    mean /= d
    double: Any = _double  # numba fills in the first argument
    largest = double(high)
    variance = 0.0
    relative = 0.0
    nonzero = 0
    peak = _order(np.float64(y[0]))
    for i in range(d):
        u = np.float64(x[i])
        v = np.float64(y[i])
        variance += (u - mean) * (u - mean)
        nonzero += u != 0.0
        relative += v / u if u != 0.0 else 0.0
        peak = max(peak, _order(v))
    top = double(peak ^ ((peak >> 63) & 0x7FFFFFFFFFFFFFFF))
    weight = 0.0
    shift = 0.0
    for i in range(d):
        v = np.float64(y[i])
        e = _exp(max(v - top, -700.0))
        weights[i] = e
        weight += e
        shift += e * (v - np.float64(x[i]))
    shift /= weight
    beyond = 0.0
    if 2 * largest < NEAR:  # the usual case, and several times as fast
        for i in range(d):
            beyond += weights[i] * _near(shift - (np.float64(y[i]) - np.float64(x[i])))
    else:
        for i in range(d):
            beyond += weights[i] * _beyond_linear(shift - (np.float64(y[i]) - np.float64(x[i])))
    net = 0.0
    for i in range(d):  # a loop of its own, so that the others are compiled to the roundings that they had
        net += np.float64(y[i]) - np.float64(x[i])
    norms = np.sqrt(before) * np.sqrt(after)
    gap = cross / (np.sqrt(before) + np.sqrt(after)) if norms > 0 else 0.0
    out[0] = moved
    out[1] = squares
    out[2] = total
    out[3] = largest
    out[4] = variance / d
    out[5] = max(squares - gap * gap, 0.0) / (2 * norms) if norms > 0 else np.nan
    out[6] = relative
    out[7] = nonzero
    out[8] = np.log1p(beyond / weight)
    out[9] = net


@compiled(fastmath=FAST)
def row_moves(a: Any, b: Any, out: Any) -> None:
    """Measure how far each row moved, from `a` to `b`, float32 or float64 of shape (rows, d), in float64.

    Parameters
    ----------
    out
        Shape (rows, 10), columns `MOVES`: coordinates that differ; sum of squared changes; sum of absolute changes; largest
        absolute change; variance of the row before; 1 - cosine, as (|a - b|^2 - (|a| - |b|)^2) / (2 |a| |b|), which does not
        cancel; sum of after / before over the coordinates that are not 0 before; their number; KL(softmax(b) || softmax(a)), as
        log(1 + E[e^z - 1 - z]) with z = E[w] - w, w = b - a, E under softmax(b), which does not cancel either;
        sum of changes.
    """
    weights = np.empty(a.shape[1])
    for r in range(len(a)):
        _measure(a[r], b[r], weights, out[r])


@njit(inline="always")
def _widen(bits: Any, infinity: Any, wide: Any) -> None:
    """Write 16-bit floats, given as their bits, as the bits of the same float32 values; they hold no NaN."""
    if infinity == 0x7F80:  # bfloat16 is the upper half of a float32
        for i in range(len(bits)):
            wide[i] = np.uint32(bits[i]) << np.uint32(16)
        return
    values = wide.view(np.float32)
    for i in range(len(bits)):
        wide[i] = np.uint32(bits[i] & 0x7FFF) << np.uint32(13)
    for i in range(len(bits)):
        # The exponent of a float16 is 112 less: multiplying moves it, subnormal values included, without rounding.
        values[i] = values[i] * np.float32(2.0**112)
    for i in range(len(bits)):
        top = np.uint32(0x7F800000) if (bits[i] & 0x7FFF) == 0x7C00 else wide[i]
        wide[i] = top | (np.uint32(bits[i] & 0x8000) << np.uint32(16))


@compiled(fastmath=FAST)
def row_moves_16(a: Any, b: Any, infinity: Any, out: Any) -> None:
    """Measure rows of 16-bit floats given as their bits, uint16 of shape (rows, d), without NaN; see `row_moves`.

    Parameters
    ----------
    infinity
        Bits of +infinity: 0x7C00 in float16 and 0x7F80 in bfloat16.
    """
    before = np.empty(a.shape[1], np.uint32)
    after = np.empty(a.shape[1], np.uint32)
    weights = np.empty(a.shape[1])
    for r in range(len(a)):
        _widen(a[r], infinity, before)
        _widen(b[r], infinity, after)
        _measure(before.view(np.float32), after.view(np.float32), weights, out[r])
