"""KS counts of tensors on the device that holds them, in plain tensor operations: only the counts leave a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

KEYS = 1 << 16
"""Keys that the bits of a 16-bit float map to."""

_HISTOGRAM_BYTES = 32 << 20
"""Bytes of histograms that are worked on at once: they are to stay in the cache of a GPU (50 MB on an H100)."""

_SORT_BYTES = 256 << 20
"""Bytes of sort keys that are worked on at once."""


def count_on_device(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Count rows on the device that they lie on.

    Parameters
    ----------
    a, b
        Shape (rows, d), of one floating dtype of 16 bits or more, and on one device.

    Returns
    -------
    torch.Tensor
        Counts, int64 of shape (rows,), on the same device; -1 where a row holds NaN.

    Notes
    -----
    16-bit floats: their bits map to keys in the order of the floats; +1 and -1 are added up in a histogram of 65,536
    keys a row, and its running sum is the difference of the counts at the end of each run of equal values. Time and
    memory traffic are those of the histogram, whatever d is. Other floats are sorted, float32 as integers that carry
    the sample in their lowest bit. Beside the input, memory is bounded whatever the number of rows.
    """
    import torch

    counts = torch.zeros(len(a), dtype=torch.int64, device=a.device)
    if a.dtype.itemsize == 2:
        for part in _parts(len(a), 4 * KEYS, _HISTOGRAM_BYTES):
            counts[part] = _count_histogram(a[part], b[part])
    else:
        for part in _parts(len(a), 16 * a.shape[1], _SORT_BYTES):
            counts[part] = _count_sorted(a[part], b[part])
    for part in _parts(len(a), 8 * a.shape[1], _SORT_BYTES):
        counts[part] = counts[part].masked_fill((torch.isnan(a[part]) | torch.isnan(b[part])).any(dim=1), -1)
    return counts


def _parts(rows: int, row_bytes: int, most: int) -> Iterator[slice]:
    step = max(1, most // row_bytes)
    for start in range(0, rows, step):
        yield slice(start, start + step)


def _count_histogram(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    import torch

    level = torch.zeros((len(a), KEYS), dtype=torch.int32, device=a.device)
    unit = torch.ones((), dtype=torch.int32, device=a.device)
    for side, step in ((a, unit), (b, -unit)):
        level.scatter_add_(1, _keys(side), step.expand(side.shape))
    return level.cumsum(dim=1, dtype=torch.int32).abs().amax(dim=1).long()


def _keys(x: torch.Tensor) -> torch.Tensor:
    """Return keys from 1 to 65,535 in the order of 16-bit floats, both zeros at 32,768."""
    import torch

    bits = x.contiguous().view(torch.int16).long()
    return torch.where(bits < 0, 0x8000 - (bits & 0x7FFF), 0x8000 + bits)


def _count_sorted(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    import torch

    both = torch.cat([a, b], dim=1)
    if both.dtype == torch.float32:
        bits = (both + 0.0).view(torch.int32)  # -0.0 + 0.0 is 0.0
        key = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).long() << 1
        key[:, a.shape[1] :] |= 1
        key = key.sort(dim=1).values
        side, value = key & 1, key >> 1
    else:
        value, order = both.sort(dim=1)
        side = (order >= a.shape[1]).long()
    level = (1 - 2 * side).cumsum(dim=1)[:, :-1]
    return (level * (value[:, 1:] != value[:, :-1])).abs().amax(dim=1)
