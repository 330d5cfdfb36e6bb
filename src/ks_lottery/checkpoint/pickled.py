"""Checkpoints that torch pickled (`.bin`, `.pt`, `.pth`), for comparing only.

Must never unpickle anything but tensors: a file that holds more is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from ks_lottery.checkpoint.file_bytes import path_of, read_at, size_of
from ks_lottery.checkpoint.layout import ModelFiles, model_files
from ks_lottery.checkpoint.pickle_file import check_amount, read_content
from ks_lottery.checkpoint.reader import Checkpoint
from ks_lottery.checkpoint.spans import as_tensor, digest_values, units_of
from ks_lottery.checkpoint.tensors import EMBEDDING_NAMES, HEAD_NAMES, module_of
from ks_lottery.errors import UserError
from ks_lottery.store.manifest import located

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from ks_lottery.checkpoint.headers import TensorEntry
    from ks_lottery.checkpoint.tensors import Units


@dataclass(frozen=True, eq=False, repr=False)
class PickledCheckpoint(Checkpoint):
    """A pickled model, read block by block from the file where its format allows that.

    Parameters
    ----------
    held
        Tensors that are in memory, by name: those of the format before torch 1.6, and views that are not contiguous.
    """

    held: Mapping[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])

    @classmethod
    def open(cls, folder: str | Path, name: str | None = None) -> PickledCheckpoint:
        """Open a file, or a folder with ``pytorch_model.bin`` (one, or shards).

        Raises
        ------
        UserError
            When it is damaged, or holds more than tensors.
        """
        path = path_of(folder)
        one = not path.is_dir()
        files = ModelFiles((path,), pickled=True, index={}, notes=()) if one else model_files(path)
        tensors: dict[str, TensorEntry] = {}
        held: dict[str, torch.Tensor] = {}
        for file in files.files:
            content = read_content(file)
            both = [tensor for tensor in content.entries if tensor in tensors]
            if both:
                raise UserError(f"tensor {both[0]} is in {tensors[both[0]].file} and in {file}: remove one of them")
            tensors.update(content.entries)
            held.update(content.held)
        files.check_index(tensors)
        for tensor in _tied_heads(tensors, held):
            del tensors[tensor]
        return cls(path.parent if one else path, name or str(path), tensors, files.notes, held=held)

    def describe(self) -> dict[str, str]:
        """Return what a manifest says of it."""
        return {"name": located(self.name)}

    def _stored(self, tensor: str, unit: Units, start: int, stop: int) -> torch.Tensor:
        value = self.held.get(tensor)
        return super()._stored(tensor, unit, start, stop) if value is None else units_of(value, unit, start, stop)

    def _stored_rows(self, tensor: str, ids: npt.NDArray[np.int64]) -> torch.Tensor:
        value = self.held.get(tensor)
        return super()._stored_rows(tensor, ids) if value is None else value[torch.from_numpy(ids)]

    def _digest(self, tensor: str) -> str:
        value = self.held.get(tensor)
        return super()._digest(tensor) if value is None else digest_values(value)


def _tied_heads(tensors: Mapping[str, TensorEntry], held: Mapping[str, torch.Tensor]) -> list[str]:
    """Return the heads that are the embedding under another name: pickles have both names, safetensors only one."""

    def place(name: str) -> tuple[Any, ...]:
        entry, value = tensors[name], held.get(name)
        return (entry.file, entry.shape, entry.start, entry.dtype, None if value is None else value.data_ptr())

    embeddings = {place(name) for name in tensors if module_of(name) in EMBEDDING_NAMES}
    return [name for name in tensors if module_of(name) in HEAD_NAMES and place(name) in embeddings]


def read_pickle(file: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a file into memory.

    Raises
    ------
    UserError
        When it is damaged, or holds more than tensors.
    """
    content = read_content(file)
    entries = {name: entry for name, entry in content.entries.items() if name not in content.held}
    check_amount(sum(entry.stop - entry.start for entry in entries.values()), size_of(file), file)
    whole = {
        name: as_tensor(read_at(file, entry.start, entry.stop - entry.start), entry.dtype, entry.shape)
        for name, entry in entries.items()
    }
    return whole | dict(content.held)
