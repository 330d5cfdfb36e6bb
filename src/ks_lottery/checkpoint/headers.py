"""Headers of safetensors files, which are checked before any byte of a tensor is read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch

from ks_lottery.checkpoint.file_bytes import read_at, size_of
from ks_lottery.errors import UserError
from ks_lottery.store.json_content import LARGEST, parse_object

if TYPE_CHECKING:
    from pathlib import Path

DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "C64": torch.complex64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
    "F8_E8M0": torch.float8_e8m0fnu,
}
"""Names of element types in a safetensors header."""

PACKED_BITS = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}
"""Types whose elements share bytes, and their bits. Their bytes are known, their values are not read."""


@dataclass(frozen=True)
class TensorEntry:
    """Where one tensor lies: file, element type, shape, and its bytes' range in the file.

    `packed` is the name of a type whose elements share bytes, such as ``F4``; `dtype` is then that of the bytes.
    """

    file: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    stop: int
    packed: str = ""

    @property
    def type_name(self) -> str:
        """Name of the element type, as torch or safetensors has it."""
        return self.packed or str(self.dtype).removeprefix("torch.")


def read_header(file: Path) -> dict[str, TensorEntry]:
    """Return where each tensor of a file lies. What the safetensors library refuses is refused.

    Raises
    ------
    UserError
        When the file is truncated, its header is damaged, or it is not a regular file.
    """
    size = size_of(file)
    length = int.from_bytes(read_at(file, 0, 8).tobytes(), "little") if size >= 8 else size
    if length > size - 8:
        raise UserError(f"{file} is truncated or no safetensors file: get it again")
    if length > LARGEST:
        raise UserError(
            f"{file} has a header of {length:,} bytes, more than the {LARGEST:,} that are read: get it again"
        )
    header = parse_object(read_at(file, 8, length).tobytes(), f"the header of {file}")
    _check_metadata(file, header.pop("__metadata__", None))
    entries = {name: _entry(file, name, about, 8 + length) for name, about in header.items()}
    end, last = 8 + length, ""
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].stop)):
        if entry.stop > size:
            raise UserError(f"{file} is truncated: tensor {name} ends at byte {entry.stop:,}, the file at {size:,}")
        if entry.start < end:
            raise UserError(f"{file}: tensor {name} overlaps {last or 'the header'}: get the file again")
        if entry.start > end:  # also where a name is there twice, of which JSON keeps the last
            raise UserError(f"{file}: the bytes before tensor {name} belong to no tensor: get the file again")
        end, last = entry.stop, name
    if end != size:
        raise UserError(f"{file} has {size - end:,} bytes after its last tensor: get the file again")
    return entries


def _check_metadata(file: Path, metadata: Any) -> None:
    if metadata is None:
        return
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise UserError(f"{file} has metadata other than text in its header: get the file again")


def _entry(file: Path, name: str, about: Any, begin: int) -> TensorEntry:
    fields = cast("dict[str, Any]", about) if isinstance(about, dict) else {}
    kind, shape, offsets = fields.get("dtype"), _sizes(fields.get("shape")), _sizes(fields.get("data_offsets"))
    known = isinstance(kind, str) and (kind in DTYPES or kind in PACKED_BITS)
    if not known or shape is None or offsets is None or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise UserError(f"{file}: tensor {name} has a header that cannot be read: get the file again")
    kind, packed = str(kind), str(kind) if kind in PACKED_BITS else ""
    dtype = torch.uint8 if packed else DTYPES[kind]
    bits = math.prod(shape) * (PACKED_BITS[kind] if packed else 8 * dtype.itemsize)
    if bits != 8 * (offsets[1] - offsets[0]):
        raise UserError(f"{file}: the bytes of tensor {name} do not fit its shape: get the file again")
    return TensorEntry(file, dtype, shape, begin + offsets[0], begin + offsets[1], packed)


def _sizes(values: Any) -> tuple[int, ...] | None:
    """Return a list of whole numbers from 0 to 2^64 - 1; None for anything else, such as true, 1.0 and -1."""
    if not isinstance(values, list):
        return None
    numbers = tuple(cast("list[Any]", values))
    return numbers if all(type(n) is int and 0 <= n < 1 << 64 for n in numbers) else None
