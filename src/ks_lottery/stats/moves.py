"""A compiled loop that measures how far each row moved, in float64, and the rival scores of the paper with it.

Must never lose digits to cancellation where a move is small: that is where fine-tuning is looked for.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from ks_lottery.stats.kernels import compiled

MOVES = ("moved", "squares", "total", "largest", "variance", "cosine", "relative", "nonzero", "kl")
"""Columns of `row_moves`."""


@intrinsic
def _double(typingctx: Any, bits: Any) -> Any:  # noqa: ARG001 (numba's signature)
    """Read 64 bits as a double."""
    from llvmlite import ir

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(types.int64), codegen


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


@njit(inline="always")
def _beyond_linear(z: Any) -> Any:
    """Return e^z - 1 - z, without cancellation where z is small."""
    near = z * z * (
        0.5 + z * (1 / 6 + z * (1 / 24 + z * (1 / 120 + z * (1 / 720 + z * (1 / 5040 + z * (1 / 40320 + z / 362880))))))
    )  # fmt: skip
    return near if abs(z) < 0.03 else _exp(max(min(z, 700.0), -700.0)) - 1.0 - z


@compiled(fastmath={"reassoc", "contract", "nsz"})
def row_moves(a: Any, b: Any, out: Any) -> None:  # noqa: PLR0915 (one loop, by design)
    """Measure how far each row moved, from `a` to `b`, float32 or float64 of shape (rows, d), in float64.

    Parameters
    ----------
    out
        Shape (rows, 9), columns `MOVES`: coordinates that differ; sum of squared changes; sum of absolute changes; largest
        absolute change; variance of the row before; 1 - cosine, as (|a - b|^2 - (|a| - |b|)^2) / (2 |a| |b|), which does not
        cancel; sum of after / before over the coordinates that are not 0 before; their number; KL(softmax(b) || softmax(a)), as
        log(1 + E[e^z - 1 - z]) with z = E[w] - w, w = b - a, E under softmax(b), which does not cancel either.
    """
    rows, d = a.shape
    for r in range(rows):
        x = a[r]
        y = b[r]
        moved = 0
        squares = 0.0
        total = 0.0
        largest = 0.0
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
            largest = max(largest, abs(w))
            before += u * u
            after += v * v
            cross += w * (u + v)
            mean += u
        mean /= d
        variance = 0.0
        relative = 0.0
        nonzero = 0
        top = np.float64(y[0])
        for i in range(d):
            u = np.float64(x[i])
            v = np.float64(y[i])
            variance += (u - mean) * (u - mean)
            nonzero += u != 0.0
            relative += v / u if u != 0.0 else 0.0
            top = max(top, v)
        weight = 0.0
        shift = 0.0
        for i in range(d):
            u = np.float64(x[i])
            v = np.float64(y[i])
            e = _exp(max(v - top, -700.0))
            weight += e
            shift += e * (v - u)
        shift /= weight
        beyond = 0.0
        for i in range(d):
            u = np.float64(x[i])
            v = np.float64(y[i])
            beyond += _exp(max(v - top, -700.0)) * _beyond_linear(shift - (v - u))
        norms = np.sqrt(before) * np.sqrt(after)
        gap = cross / (np.sqrt(before) + np.sqrt(after)) if norms > 0 else 0.0
        out[r, 0] = moved
        out[r, 1] = squares
        out[r, 2] = total
        out[r, 3] = largest
        out[r, 4] = variance / d
        out[r, 5] = max(squares - gap * gap, 0.0) / (2 * norms) if norms > 0 else np.nan
        out[r, 6] = relative
        out[r, 7] = nonzero
        out[r, 8] = np.log1p(beyond / weight)
