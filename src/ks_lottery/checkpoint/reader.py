"""A checkpoint on disk, read tensor by tensor and block by block, without building the model.

Must never run code from a checkpoint: safetensors alone are read here, and their headers are checked before their bytes.
"""

from __future__ import annotations

import hashlib
import json
import mmap
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from ks_lottery.checkpoint.headers import read_header, weight_files
from ks_lottery.checkpoint.tensors import Units, cut, find_embedding, find_head
from ks_lottery.errors import UserError
from ks_lottery.report.notebook import Shown
from ks_lottery.report.section import Column, Section
from ks_lottery.store.manifest import digest_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from ks_lottery.checkpoint.headers import TensorEntry

CONTEXT = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")
"""Keys under which a model's config says how many tokens it can look at."""


@dataclass(frozen=True, eq=False, repr=False)
class Checkpoint(Shown):
    """A model on disk.

    Two are equal when their tensors are, by name, type, shape and bytes, wherever they lie and however they are sharded.

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
    def open(cls, folder: str | Path, name: str | None = None) -> Checkpoint:
        """Open a folder of safetensors (one file, or shards with an index), or one such file.

        Parameters
        ----------
        folder
            The folder or the file.
        name
            What manifests call it; by default the folder.

        Raises
        ------
        UserError
            When there is nothing to read, a file is truncated or damaged, or only a pickle is there.
        """
        folder = Path(folder).expanduser()
        if not folder.exists():
            raise UserError(f"model folder {folder} does not exist")
        tensors: dict[str, TensorEntry] = {}
        for file in weight_files(folder) if folder.is_dir() else [folder]:
            for tensor, entry in read_header(file).items():
                if tensor in tensors:
                    raise UserError(f"tensor {tensor} is in {tensors[tensor].file} and in {file}: remove one of them")
                tensors[tensor] = entry
        return cls(folder if folder.is_dir() else folder.parent, name or str(folder), tensors)

    def __repr__(self) -> str:
        try:
            unit = self.units[self.embedding]
            rows = f", embedding {unit.count:,} x {unit.width:,} {str(unit.dtype).removeprefix('torch.')}"
        except UserError:
            rows = ""
        return f"{type(self).__name__}({self.name}: {len(self.tensors):,} tensors{rows})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Checkpoint):
            return NotImplemented
        if self is other or self._headers() != other._headers():
            return self is other
        same = all(entry == other.tensors[name] for name, entry in self.tensors.items())
        return (same and type(self) is type(other) is Checkpoint) or self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        """Hash by names, types and shapes, without reading a tensor."""
        return hash(self._headers())

    def _headers(self) -> tuple[tuple[str, str, tuple[int, ...]], ...]:
        return tuple((name, str(entry.dtype), entry.shape) for name, entry in sorted(self.tensors.items()))

    def sections(self, most: int = 20) -> list[Section]:
        """Return the first `most` tensors (20) as a table, and the whole in a sentence."""
        columns = [Column(title="tensor"), Column(title="type"), Column(title="shape", align="right")]
        rows = [
            [name, str(entry.dtype).removeprefix("torch."), " x ".join(f"{n:,}" for n in entry.shape)]
            for name, entry in list(self.tensors.items())[:most]
        ]
        return [Section(columns=columns, rows=rows, sentences=[repr(self)])]

    @property
    def config(self) -> dict[str, Any]:
        """Content of ``config.json``."""
        return self._config

    @cached_property
    def _config(self) -> dict[str, Any]:
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
        """Return None for any `tensor`: what this checkpoint was made from is not known."""
        return

    @property
    def vocabulary(self) -> int:
        """Number V of rows of the embedding."""
        return self.tensors[self.embedding].shape[0]

    @property
    def width(self) -> int:
        """Length d of a row of the embedding."""
        return self.tensors[self.embedding].shape[1]

    @property
    def location(self) -> str:
        """Where others find the model: its folder."""
        return str(self.folder.resolve())

    @property
    def fingerprint(self) -> str:
        """SHA-256 over names, types, shapes and bytes of all tensors: the same however they are sharded."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
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
        ids
            Rows, shape (K,), each from 0 to V - 1.
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
