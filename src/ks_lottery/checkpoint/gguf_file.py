"""Writes a GGUF file again with some tensors changed or added; every other byte is copied from the file it was read from."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ks_lottery.checkpoint.file_bytes import read_at
from ks_lottery.checkpoint.gguf_header import MAGIC, STRING, GgufHeader, GgufTensor
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import BinaryIO

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

PIECE = 1 << 24
"""Bytes that are copied at a time."""


@dataclass(frozen=True, kw_only=True)
class NewTensor:
    """Content of a tensor that a file gets.

    Parameters
    ----------
    kind
        Its type, a number of `gguf.GGMLQuantizationType`.
    shape
        Its axes, rows first.
    data
        Its bytes: in memory, or those of a tensor of the file that is copied.
    """

    kind: int
    shape: tuple[int, ...]
    data: Bytes | GgufTensor

    @property
    def size(self) -> int:
        """Number of bytes."""
        return self.data.size

    @classmethod
    def copy_of(cls, tensor: GgufTensor) -> NewTensor:
        """Return a tensor with the bytes of another one of the file."""
        return cls(kind=tensor.kind, shape=tensor.shape, data=tensor)


@dataclass(frozen=True, kw_only=True)
class Rewritten:
    """A matrix with new rows, and what their type makes of it.

    Parameters
    ----------
    tensor
        The matrix.
    rows
        The new rows as the file has them, shape (K, d), float32.
    kept_error
        Largest difference of a row that is not new from its value before: 0 unless the type had to be changed.
    notes
        Sentences on what the user should know.
    """

    tensor: NewTensor
    rows: Floats
    kept_error: float = 0.0
    notes: tuple[str, ...] = field(default=())


def type_name(kind: int) -> str:
    """Return the name of a type, such as ``Q8_0``."""
    from gguf import GGMLQuantizationType

    return GGMLQuantizationType(kind).name


def quantised(rows: Floats, kind: int) -> Bytes | None:
    """Return rows as bytes of a type, shape (K, bytes of a row); None where gguf has no quantiser for it."""
    from gguf import GGMLQuantizationType, quants

    try:
        packed: Any = quants.quantize(np.ascontiguousarray(rows), GGMLQuantizationType(kind))
    except NotImplementedError:
        return None
    return np.ascontiguousarray(packed).view(np.uint8).reshape(len(rows), -1)


def floats(packed: Bytes, kind: int) -> Floats:
    """Return bytes of rows, shape (K, bytes of a row), as their floats, shape (K, d)."""
    from gguf import GGMLQuantizationType, quants

    stored: Any = {0: np.float32, 1: np.float16}.get(kind)
    raw: Any = np.ascontiguousarray(packed)
    values: Any = quants.dequantize(raw if stored is None else raw.view(stored), GGMLQuantizationType(kind))
    return np.asarray(values, dtype=np.float32).reshape(len(packed), -1)


def rows_of(header: GgufHeader, name: str) -> Bytes:
    """Return the bytes of a matrix, shape (V, bytes of a row).

    Raises
    ------
    UserError
        When the file has no matrix of that name.
    """
    tensor = header.tensors.get(name)
    if tensor is None or len(tensor.shape) != 2:
        raise UserError(f"{header.file} has no matrix {name}: it is not a language model that can be changed")
    packed = read_at(header.file, tensor.start, tensor.size)
    return packed.reshape(tensor.shape[0], -1)


def with_rows(
    header: GgufHeader, name: str, ids: npt.NDArray[np.int64], rows: Floats, count: int | None = None
) -> Rewritten:
    """Return a matrix of a file with new rows, in its own quantisation.

    Only the bytes of these rows change. A type that `gguf` can read and not write becomes F16: it is the narrowest type that
    keeps the other rows to 11 bits.

    Parameters
    ----------
    header
        The file.
    name
        The matrix, V rows of width d.
    ids
        Rows, shape (K,).
    rows
        Their values, shape (K, d).
    count
        Rows that the matrix gets, where there are more than V: those that are not among `ids` are the mean of the V. None (the
        default) for V.
    """
    from gguf import GGMLQuantizationType

    tensor = header.tensors[name]
    packed, kind = rows_of(header, name).copy(), tensor.kind
    given, more = len(rows), 0 if count is None else count - len(packed)
    if more > 0:
        mean = _mean(packed, kind)
        beyond = len(packed) + np.setdiff1d(np.arange(more), ids - len(packed))
        packed = np.concatenate([packed, np.zeros((more, packed.shape[1]), dtype=np.uint8)])
        rows, ids = np.concatenate([rows, np.tile(mean, (len(beyond), 1))]), np.concatenate([ids, beyond])
    new, error, notes = quantised(rows, kind), 0.0, ()
    if new is None:
        before, kind = packed, int(GGMLQuantizationType.F16)
        packed = np.empty((len(before), 2 * rows.shape[1]), dtype=np.uint8)
        for start in range(0, len(before), 1 << 14):
            block = floats(before[start : start + (1 << 14)], tensor.kind)
            narrow = block.astype(np.float16)
            error = max(error, float(np.abs(narrow.astype(np.float32) - block).max(initial=0)))
            packed[start : start + len(block)] = narrow.view(np.uint8).reshape(len(block), -1)
        new = np.ascontiguousarray(rows.astype(np.float16)).view(np.uint8).reshape(len(rows), -1)
        notes = (
            f"{name} is F16 now: gguf has no quantiser for {type_name(tensor.kind)}. "
            f"Its other rows change by at most {error:.1e}.",
        )
    packed[ids] = new
    made = NewTensor(kind=kind, shape=(len(packed), *tensor.shape[1:]), data=packed.reshape(-1))
    return Rewritten(tensor=made, rows=floats(new, kind)[:given], kept_error=error, notes=notes)


def _mean(packed: Bytes, kind: int) -> Floats:
    """Return the mean of the rows of a matrix, shape (d,), summed in float64."""
    starts = range(0, len(packed), 1 << 14)
    sums = [floats(packed[start : start + (1 << 14)], kind).sum(axis=0, dtype=np.float64) for start in starts]
    return (np.sum(sums, axis=0) / len(packed)).astype(np.float32)


def write_gguf(
    header: GgufHeader,
    out: Path,
    tensors: Mapping[str, NewTensor],
    texts: Mapping[str, str] | None = None,
    values: Mapping[str, bytes] | None = None,
) -> None:
    """Write a GGUF file with the content of another one, some tensors changed or added, and some texts of its header.

    Parameters
    ----------
    header
        The file that is copied.
    out
        Where to write.
    tensors
        Name to content: of a tensor of the file, or of a new one, which comes last.
    texts
        Key of the header to a string that it has from now on.
    values
        Key of the header to any other value, as the bytes of its type and content.
    """
    all_tensors = {name: NewTensor.copy_of(tensor) for name, tensor in header.tensors.items()} | dict(tensors)
    with out.open("wb") as file:
        given = {name: struct.pack("<I", STRING) + _string(text) for name, text in (texts or {}).items()}
        file.write(_head(header, all_tensors, {**given, **(values or {})}))
        for tensor in all_tensors.values():
            _pad(file, header.alignment)
            if isinstance(tensor.data, GgufTensor):
                _copy(header, tensor.data, file)
            else:
                file.write(tensor.data.tobytes())
        _pad(file, header.alignment)


def _head(header: GgufHeader, tensors: Mapping[str, NewTensor], values: Mapping[str, bytes]) -> bytes:
    """Return all that is before the tensors' bytes: values as they were but for some, and a line for each tensor."""
    keys = {name: read_at(header.file, start, stop - start).tobytes() for name, (start, stop) in header.keys.items()}
    keys |= {name: _string(name) + value for name, value in values.items()}
    parts = [MAGIC, struct.pack("<IQQ", header.version, len(tensors), len(keys)), *keys.values()]
    offset = 0
    for name, tensor in tensors.items():
        axes = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *reversed(tensor.shape))
        parts.append(_string(name) + axes + struct.pack("<IQ", tensor.kind, offset))
        offset += -(-tensor.size // header.alignment) * header.alignment
    return b"".join(parts)


def _string(text: str) -> bytes:
    raw = text.encode("utf-8")
    return struct.pack("<Q", len(raw)) + raw


def _pad(file: BinaryIO, alignment: int) -> None:
    file.write(b"\0" * (-file.tell() % alignment))


def _copy(header: GgufHeader, tensor: GgufTensor, file: BinaryIO) -> None:
    pieces = ((at, min(PIECE, tensor.size - at)) for at in range(0, tensor.size, PIECE))
    file.writelines(read_at(header.file, tensor.start + at, size).tobytes() for at, size in pieces)
