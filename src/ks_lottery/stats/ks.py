"""The Kolmogorov-Smirnov distance of two samples of one size as an exact integer count, for many rows at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

SMALL = 1 << 16
"""Below so many values the rows are sorted: loading the compiled loops would take longer."""

WIDEST = 32_767
"""Above this d rows are sorted: the compiled loops count in 16 bits."""

INFINITY_BITS = {"float16": 0x7C00, "bfloat16": 0x7F80}
"""Bits of +infinity by the name of a 16-bit type."""

GPUS = ("cuda", "xpu")
"""Kinds of devices on which tensors are counted where they lie; from any other they are copied to the processor."""

_CHUNK_BYTES = 8 << 20
"""Bytes of sort keys, or of values, that are worked on at once."""
_NAMED_ROWS = 5
_NUMPY_KNOWS = frozenset({"torch.float16", "torch.float32", "torch.float64"})


def ks_counts(a: Any, b: Any) -> npt.NDArray[np.int64]:
    """Return the KS distance of each pair of rows as an integer count.

    k = max over x of ``|#{a_i <= x} - #{b_i <= x}|``, so that D = sup |F - G| = k / d exactly. Ties are
    exact: the difference is read only at the end of a run of equal values, as in `scipy.stats.ks_2samp`.

    Parameters
    ----------
    a, b
        Samples of one shape (..., d) with d >= 1: NumPy arrays of any float dtype, or PyTorch tensors of
        any (8-bit and bfloat16 values are widened to float32, which is exact). Different dtypes are
        promoted to their common one. Infinities are values like any other; -0.0 equals 0.0.

    Returns
    -------
    numpy.ndarray
        Counts from 0 to d, int64, shape (...).

    Raises
    ------
    TypeError
        If a sample is not of a real floating-point dtype.
    ValueError
        If the shapes differ, there is no last axis or it is empty, or a row holds NaN (the first such rows
        are named).

    Notes
    -----
    Tensors on a GPU are counted there (`ks_lottery.stats.ks_device`). Else time is O(d) a row, on all processors; small
    inputs, d above 32,767 and long doubles are sorted instead, in O(d log d).
    Beside the input, memory is bounded whatever the number of rows.

    Examples
    --------
    >>> import numpy as np
    >>> ks_counts(np.array([[0.0, 1.0, 2.0], [0.0, 0.0, 1.0]]), np.array([[0.0, 5.0, 6.0], [0.0, 1.0, 1.0]]))
    array([2, 1])
    """
    a, b = _sample(a, "a"), _sample(b, "b")
    shape = tuple(int(n) for n in a.shape)
    if shape != tuple(b.shape):
        raise ValueError(f"both samples must have one shape, but a has {shape} and b has {tuple(b.shape)}")
    if not shape or shape[-1] == 0:
        raise ValueError(f"a sample needs a last axis of at least one value, but the shape is {shape}")
    batch, d = shape[:-1], shape[-1]
    rows = int(np.prod(batch, dtype=np.int64))
    a, b = a.reshape(rows, d), b.reshape(rows, d)
    if _on_gpu(a) and _on_gpu(b):
        return _count_on_gpu(a, b, batch)
    counts = np.zeros(rows, dtype=np.int64)
    dtype = np.promote_types(_numpy(a[:0]).dtype, _numpy(b[:0]).dtype)
    if rows * d < SMALL or d > WIDEST or dtype.itemsize > 8:
        _refuse_nan(a, b, batch)
        for part in _chunks(rows, d):
            counts[part] = _count_sorted(_numpy(a[part]).astype(dtype), _numpy(b[part]).astype(dtype))
    else:
        _count_compiled(a, b, dtype, counts)
        if (counts < 0).any():
            _refuse_nan(a, b, batch)
    return counts.reshape(batch)


def _on_gpu(x: Any) -> bool:
    return not isinstance(x, np.ndarray) and x.device.type in GPUS


def _count_on_gpu(a: Any, b: Any, batch: tuple[int, ...]) -> npt.NDArray[np.int64]:
    import torch

    from ks_lottery.stats.ks_device import count_on_device

    # Exact: bfloat16 holds every value of a type of 8 bits.
    a, b = (x.to(torch.bfloat16) if x.dtype.itemsize == 1 else x for x in (a, b.to(a.device)))
    common = torch.promote_types(a.dtype, b.dtype)
    counts = count_on_device(a.to(common), b.to(common)).cpu().numpy()
    if (counts < 0).any():
        _refuse_nan(a, b, batch)
    return counts.reshape(batch)


def count_block(a: npt.NDArray[Any], b: npt.NDArray[Any], infinity: int = 0) -> npt.NDArray[np.int64]:
    """Count one block of rows with the compiled loops, in the calling thread.

    Parameters
    ----------
    a, b
        Shape (rows, d), d <= `WIDEST`; both float32, both float64, or both uint16: the bits of 16-bit floats.
    infinity
        For bits: those of +infinity, 0x7C00 in float16 and 0x7F80 in bfloat16.

    Returns
    -------
    ndarray
        Counts, shape (rows,); -1 where a row holds NaN.
    """
    from ks_lottery.stats import kernels

    counts = np.zeros(len(a), dtype=np.int64)
    if a.dtype == np.uint16:
        kernels.count_16(a, b, infinity, counts)
    else:
        buckets = 1 << max(6, (a.shape[1] - 1).bit_length())
        kernels.count_floats(a, b, buckets, counts)
    return counts


def _count_compiled(a: Any, b: Any, dtype: np.dtype[Any], counts: npt.NDArray[np.int64]) -> None:
    """Count all rows, a block a thread; what is no 16-bit float on both sides is compared as float32 or float64."""
    from concurrent.futures import ThreadPoolExecutor

    from ks_lottery.stats.kernels import threads

    names = {str(a.dtype).removeprefix("torch."), str(b.dtype).removeprefix("torch.")}
    name = names.pop() if len(names) == 1 else ""
    infinity = INFINITY_BITS.get(name, 0)
    wide = np.dtype(np.float64 if dtype.itemsize == 8 else np.float32)

    def work(part: slice) -> None:
        x, y = (bits(s[part]) if infinity else _numpy(s[part]).astype(wide, copy=False) for s in (a, b))
        counts[part] = count_block(np.ascontiguousarray(x), np.ascontiguousarray(y), infinity)

    with ThreadPoolExecutor(threads()) as pool:
        for _ in pool.map(work, _chunks(*a.shape)):
            pass


def bits(x: Any) -> npt.NDArray[np.uint16]:
    """Return the bits of 16-bit floats, array or tensor, as uint16 of the same shape."""
    if isinstance(x, np.ndarray):
        return np.ascontiguousarray(x, dtype="=f2").view(np.uint16)
    import torch

    return x.detach().cpu().contiguous().view(torch.int16).numpy().view(np.uint16)


def _sample(x: Any, name: str) -> Any:
    """Return a tensor as it is and anything else as an array; refuse what is not of a float dtype."""
    # By name and not by isinstance: this module must not import torch, which takes seconds.
    if any(base.__module__.split(".")[0] == "torch" for base in type(x).__mro__):
        floating = bool(x.is_floating_point())
    else:
        x = np.asarray(x)
        floating = x.dtype.kind == "f"
    if not floating:
        raise TypeError(f"sample {name} must be of a floating-point dtype, not {x.dtype}")
    return x


def _numpy(x: Any) -> npt.NDArray[Any]:
    if isinstance(x, np.ndarray):
        return x
    x = x.detach().cpu()
    return (x if str(x.dtype) in _NUMPY_KNOWS else x.float()).numpy()


def _chunks(rows: int, d: int) -> Iterator[slice]:
    step = max(1, _CHUNK_BYTES // (16 * d))
    for start in range(0, rows, step):
        yield slice(start, start + step)


def _refuse_nan(a: Any, b: Any, batch: tuple[int, ...]) -> None:
    rows, d = a.shape
    holds = np.zeros(rows, dtype=bool)
    for part in _chunks(rows, d):
        holds[part] = np.isnan(_numpy(a[part])).any(axis=1) | np.isnan(_numpy(b[part])).any(axis=1)
    bad = np.flatnonzero(holds)
    if not len(bad):
        return
    if not batch:
        raise ValueError("a sample holds NaN, which has no place in an order")
    places = [index[0] if len(index) == 1 else index for index in _indices(bad[:_NAMED_ROWS], batch)]
    names = ", ".join(str(place) for place in places) + (", ..." if len(bad) > _NAMED_ROWS else "")
    raise ValueError(f"{len(bad)} of {rows} rows hold NaN, which has no place in an order: {names}")


def _indices(flat: npt.NDArray[np.int64], batch: tuple[int, ...]) -> list[tuple[int, ...]]:
    return [tuple(int(i) for i in np.unravel_index(row, batch)) for row in flat]


def _count_sorted(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Count rows of any float type by sorting both samples of a row together."""
    d = a.shape[1]
    both = np.concatenate([a, b], axis=1)
    order = np.argsort(both, axis=1, kind="stable")
    both = np.take_along_axis(both, order, axis=1)
    return _largest((order >= d).astype(np.int8), both[:, 1:] != both[:, :-1])


def _largest(side: npt.NDArray[np.int8], last: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return the largest difference of the counts read where `last` marks the end of a run.

    The end of the whole sequence needs no reading: the samples have one size, so the difference there is 0.
    """
    narrow = side.shape[1] // 2 <= np.iinfo(np.int16).max
    difference = np.cumsum(1 - 2 * side[:, :-1], axis=1, dtype=np.int16 if narrow else np.int64)
    difference *= last
    return np.abs(difference, out=difference).max(axis=1).astype(np.int64)
