"""Checkpoints that torch pickled (`.bin`, `.pt`, `.pth`), for comparing only.

Must never unpickle anything but tensors: `weights_only=True`, and a file that holds more is refused.
"""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from ks_lottery.checkpoint.tensors import Units, cut, find_embedding, find_head
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PICKLES = (".bin", ".pt", ".pth")
"""Endings of such files."""


@dataclass(frozen=True)
class PickledCheckpoint:
    """A pickled model, its tensors mapped into memory where the file's format allows it."""

    folder: Path
    name: str
    tensors: Mapping[str, torch.Tensor]
    model_type: str

    @classmethod
    def open(cls, path: Path, name: str | None = None) -> PickledCheckpoint:
        """Open a file, or a folder with ``pytorch_model*.bin`` (one, or shards).

        Raises
        ------
        UserError
            When it is damaged, or holds more than tensors.
        """
        folder = path if path.is_dir() else path.parent
        files = sorted(f for f in path.glob("*") if f.suffix in PICKLES and "training_args" not in f.name)
        tensors: dict[str, torch.Tensor] = {}
        for file in files if path.is_dir() else [path]:
            tensors.update(read_pickle(file))
        config = folder / "config.json"
        kind = json.loads(config.read_text(encoding="utf-8")).get("model_type", "") if config.is_file() else ""
        return cls(folder, name or str(path), tensors, str(kind))

    @property
    def units(self) -> Mapping[str, Units]:
        """Every tensor of floats, as samples."""
        return self._units

    @cached_property
    def _units(self) -> Mapping[str, Units]:
        return cut({name: (tuple(t.shape), t.dtype) for name, t in self.tensors.items()}, self.model_type)

    @property
    def embedding(self) -> str:
        """Name of the input embedding."""
        return find_embedding(self.units, self.name)

    @property
    def head(self) -> str:
        """Name of the output embedding; the input embedding's where the two are tied."""
        return find_head(self.units, self.name)

    def block(self, tensor: str, start: int, stop: int) -> torch.Tensor:
        """Return units `start` to `stop` of a tensor, shape (stop - start, width), in its stored type."""
        unit, stored = self.units[tensor], self.tensors[tensor]
        if unit.transposed:
            return stored[:, start:stop].T.contiguous()
        return stored.reshape(unit.count, unit.width)[start:stop].clone()

    def changed(self, tensor: str) -> None:  # noqa: ARG002 (a checkpoint stands alone)
        """Return None: what this checkpoint was made from is not known."""
        return

    def describe(self) -> dict[str, str]:
        """Return what a manifest says of it."""
        return {"name": self.name}


def read_pickle(file: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a file.

    Raises
    ------
    UserError
        When it is damaged, or holds more than tensors.
    """
    try:
        try:
            content = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        except (RuntimeError, ValueError):  # an older format, which cannot be mapped
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{file} is a pickle that holds more than tensors, or a damaged one, and is not loaded: convert it to safetensors"
        ) from error
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        raise UserError(f"{file} cannot be read as a checkpoint: get it again") from error
    if not isinstance(content, dict):
        raise UserError(f"{file} holds no tensors by name")
    return {str(name): tensor for name, tensor in content.items() if isinstance(tensor, torch.Tensor)}
