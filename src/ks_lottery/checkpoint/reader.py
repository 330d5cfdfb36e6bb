"""A checkpoint on disk, read tensor by tensor and block by block, without building the model.

Must never run code from a checkpoint: safetensors alone are read here, and their headers are checked before their bytes.
"""

from __future__ import annotations

import hashlib
import json
import mmap
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from ks_lottery.checkpoint.tensors import Units, cut, find_embedding, find_head
from ks_lottery.errors import UserError
from ks_lottery.store.manifest import digest_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

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

CONTEXT = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")
"""Keys under which a model's config says how many tokens it can look at."""


@dataclass(frozen=True)
class TensorEntry:
    """Where one tensor lies: file, element type, shape, and its bytes' range in the file."""

    file: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True)
class Checkpoint:
    """A model on disk.

    Parameters
    ----------
    folder
        Folder with ``config.json`` and safetensors.
    name
        What the user called it; saved in manifests, so that the base of a patch is found again.
    tensors
        Every tensor by its name.
    """

    folder: Path
    name: str
    tensors: Mapping[str, TensorEntry]

    @classmethod
    def open(cls, folder: Path, name: str | None = None) -> Checkpoint:
        """Open a folder of safetensors (one file, or shards with an index), or one such file.

        Raises
        ------
        UserError
            When there is nothing to read, a file is truncated or damaged, or only a pickle is there.
        """
        if not folder.exists():
            raise UserError(f"model folder {folder} does not exist")
        tensors: dict[str, TensorEntry] = {}
        for file in _weight_files(folder) if folder.is_dir() else [folder]:
            for tensor, entry in _read_header(file).items():
                if tensor in tensors:
                    raise UserError(f"tensor {tensor} is in {tensors[tensor].file} and in {file}: remove one of them")
                tensors[tensor] = entry
        return cls(folder if folder.is_dir() else folder.parent, name or str(folder), tensors)

    @cached_property
    def config(self) -> dict[str, Any]:
        """Content of ``config.json``."""
        path = self.folder / "config.json"
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise UserError(f"{self.folder} has no config.json: it is not a transformers model folder") from error
        except ValueError as error:
            raise UserError(f"{path} is not valid JSON") from error

    @property
    def units(self) -> Mapping[str, Units]:
        """Every tensor of floats, as samples."""
        return self._units

    @cached_property
    def _units(self) -> Mapping[str, Units]:
        kind = str(self.config.get("model_type", "")) if (self.folder / "config.json").is_file() else ""
        return cut({name: (entry.shape, entry.dtype) for name, entry in self.tensors.items()}, kind)

    @property
    def embedding(self) -> str:
        """Name of the input embedding, shape (V, d).

        Raises
        ------
        UserError
            When there is none, or more than one.
        """
        return find_embedding(self.units, self.name)

    @property
    def head(self) -> str:
        """Name of the output embedding; the input embedding's where the two are tied."""
        return find_head(self.units, self.name)

    def block(self, tensor: str, start: int, stop: int) -> torch.Tensor:
        """Return units `start` to `stop` of a tensor, shape (stop - start, width), in its stored type.

        Their bytes are read into memory of their own, not mapped, so that nothing more stays resident.
        """
        entry, unit = self.tensors[tensor], self.units[tensor]
        if unit.transposed:
            size = entry.dtype.itemsize
            table = np.memmap(entry.file, np.uint8, mode="r", offset=entry.start, shape=(unit.width, unit.count, size))
            picked = np.ascontiguousarray(table[:, start:stop].transpose(1, 0, 2))
            return torch.from_numpy(picked.reshape(stop - start, -1)).view(entry.dtype)
        row = unit.width * entry.dtype.itemsize
        buffer = np.empty((stop - start) * row, np.uint8)
        with entry.file.open("rb", buffering=0) as handle:
            handle.seek(entry.start + start * row)
            view, done = memoryview(cast("Any", buffer)), 0
            while done < len(buffer):
                got = handle.readinto(view[done:])
                if not got:
                    raise UserError(f"{entry.file} became shorter while it was read: tensor {tensor}")
                done += got
        return torch.from_numpy(buffer).view(entry.dtype).reshape(stop - start, unit.width)

    def changed(self, tensor: str) -> None:  # noqa: ARG002 (a checkpoint stands alone)
        """Return None: what this checkpoint was made from is not known."""
        return

    @property
    def vocabulary(self) -> int:
        """Number V of rows of the embedding."""
        return self.tensors[self.embedding].shape[0]

    @property
    def width(self) -> int:
        """Length d of a row of the embedding."""
        return self.tensors[self.embedding].shape[1]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over names, types, shapes and bytes of all tensors: the same however they are sharded."""
        content: list[list[Any]] = []
        for name in sorted(self.tensors):
            entry = self.tensors[name]
            with (
                entry.file.open("rb") as handle,
                mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as view,
                memoryview(view) as whole,
                whole[entry.start : entry.stop] as part,
            ):
                digest = hashlib.sha256(part).hexdigest()
            content.append([name, str(entry.dtype), list(entry.shape), digest])
        return digest_json(content)

    def rows(self, ids: npt.NDArray[np.int64], side: str = "input") -> torch.Tensor:
        """Return rows of the input embedding, shape (K, d), float32 (exact for narrower types).

        Only the bytes of these rows are read.

        Parameters
        ----------
        side
            ``output`` for rows of the output embedding, which are the input embedding's where the two are tied.
        """
        entry = self.tensors[self.head if side == "output" else self.embedding]
        size = (entry.stop - entry.start) // entry.shape[0]
        table = np.memmap(entry.file, np.uint8, mode="r", offset=entry.start, shape=(entry.shape[0], size))
        picked = np.ascontiguousarray(table[ids])
        if picked.size == 0:
            return torch.empty((0, entry.shape[1]))
        return torch.from_numpy(picked).view(entry.dtype).reshape(len(ids), entry.shape[1]).float()

    @property
    def context(self) -> int | None:
        """Tokens that the model looks at at most; None where its config does not say."""
        return next((self.config[key] for key in CONTEXT if isinstance(self.config.get(key), int)), None)

    def describe(self) -> dict[str, str]:
        """Return what a manifest says of this checkpoint."""
        return {"name": self.name, "fingerprint": self.fingerprint}


def _weight_files(folder: Path) -> list[Path]:
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


def _read_header(file: Path) -> dict[str, TensorEntry]:
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
