"""The files of a checkpoint and their headers, which are checked before any byte of a tensor is read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ks_lottery.errors import UserError

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
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
"""Names of element types in a safetensors header."""


@dataclass(frozen=True)
class TensorEntry:
    """Where one tensor lies: file, element type, shape, and its bytes' range in the file."""

    file: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    stop: int


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of a folder.

    Raises
    ------
    UserError
        When there is none, a shard is missing, or only a pickle is there.
    """
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise UserError(f"{index} is not an index of safetensors shards") from error
        for name in names:
            if "/" in name or "\\" in name or not (folder / name).is_file():
                raise UserError(f"{index} names the shard {name!r}, which is not in the folder")
        return [folder / name for name in names]
    files = sorted(folder.glob("*.safetensors"))
    if files:
        return files
    pickles = sorted([*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")])
    if pickles:
        raise UserError(
            f"{pickles[0]} is a pickle, which could run code when loaded: convert the checkpoint to safetensors"
        )
    raise UserError(f"{folder} holds no safetensors")


def read_header(file: Path) -> dict[str, TensorEntry]:
    """Return where each tensor of a file lies.

    Raises
    ------
    UserError
        When the file is truncated or its header is damaged.
    """
    size = file.stat().st_size
    with file.open("rb") as handle:
        length = int.from_bytes(handle.read(8), "little")
        if size < 8 or length > size - 8:
            raise UserError(f"{file} is truncated or no safetensors file: get it again")
        try:
            header: Any = json.loads(handle.read(length))
        except ValueError as error:
            raise UserError(f"{file} has a damaged header: get it again") from error
    if not isinstance(header, dict):
        raise UserError(f"{file} has a damaged header: get it again")
    header.pop("__metadata__", None)
    entries: dict[str, TensorEntry] = {}
    for name, about in header.items():
        try:
            dtype = DTYPES[about["dtype"]]
            shape = tuple(int(n) for n in about["shape"])
            start, stop = (8 + length + int(n) for n in about["data_offsets"])
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{file}: tensor {name} has a header that cannot be read: get the file again") from error
        if stop > size:
            raise UserError(f"{file} is truncated: tensor {name} ends at byte {stop:,}, the file at {size:,}")
        if min(shape, default=0) < 0 or stop - start != int(np.prod(shape, dtype=np.int64)) * dtype.itemsize:
            raise UserError(f"{file}: the bytes of tensor {name} do not fit its shape: get the file again")
        entries[name] = TensorEntry(file, dtype, shape, start, stop)
    end, last = 8 + length, ""
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].stop)):
        if entry.start < end:
            raise UserError(f"{file}: tensor {name} overlaps {last or 'the header'}: get the file again")
        end, last = entry.stop, name
    return entries
