"""A checkpoint on disk, read tensor by tensor and block by block, without building the model.

Must never run code from a checkpoint: safetensors alone are read here, and their headers are checked before their bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from ks_lottery.checkpoint.codes import empty_matrices, packed_weights
from ks_lottery.checkpoint.file_bytes import is_there, path_of
from ks_lottery.checkpoint.headers import read_header
from ks_lottery.checkpoint.layout import folder_config, model_files
from ks_lottery.checkpoint.scales import Scaling, scale_names, scalings
from ks_lottery.checkpoint.spans import digest_span, read_rows, read_units
from ks_lottery.checkpoint.tensors import Units, cut, find_embedding, find_head, is_untied, model_type, vocabulary_size
from ks_lottery.errors import UserError
from ks_lottery.report.notebook import Shown
from ks_lottery.report.section import Column, Section
from ks_lottery.store.embedded_models import terms_of
from ks_lottery.store.manifest import digest_json, located

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
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
    notes
        Sentences on what lies in the folder and is not read.
    """

    folder: Path
    name: str
    tensors: Mapping[str, TensorEntry]
    notes: tuple[str, ...] = ()

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
        path = path_of(folder)
        if not path.exists():
            raise UserError(f"model folder {path} does not exist")
        where = name or str(path)
        if not path.is_dir():
            return cls(path.parent, where, read_header(path))
        files = model_files(path)
        if files.pickled:
            raise UserError(
                f"{files.files[0]} is a pickle, which could run code when loaded: convert the checkpoint to safetensors"
            )
        tensors: dict[str, TensorEntry] = {}
        for file in files.files:
            for tensor, entry in read_header(file).items():
                if tensor in tensors:
                    raise UserError(f"tensor {tensor} is in {tensors[tensor].file} and in {file}: remove one of them")
                tensors[tensor] = entry
        files.check_index(tensors)
        return cls(path, where, tensors, files.notes)

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
        return tuple((name, entry.type_name, entry.shape) for name, entry in sorted(self.tensors.items()))

    def sections(self, most: int = 20) -> list[Section]:
        """Return the first `most` tensors (20) as a table, and the whole in a sentence."""
        columns = [Column(title="tensor", cut="begin"), Column(title="type"), Column(title="shape", align="right")]
        rows = [
            [name, entry.type_name, " x ".join(f"{n:,}" for n in entry.shape)]
            for name, entry in list(self.tensors.items())[:most]
        ]
        return [Section(columns=columns, rows=rows, sentences=[repr(self)])]

    @property
    def config(self) -> dict[str, Any]:
        """Content of ``config.json``."""
        return self._config

    @cached_property
    def _config(self) -> dict[str, Any]:
        if not is_there(self.folder / "config.json"):
            raise UserError(f"{self.folder} has no config.json: it is not a transformers model folder")
        return folder_config(self.folder)

    @property
    def units(self) -> Mapping[str, Units]:
        """Every tensor of floats, as samples. A quantised weight has the type of its values, and its scales are no tensor."""
        return self._units

    @property
    def _about(self) -> dict[str, Any]:
        """The model's config; empty where there is none, as beside a single file."""
        return self._folder_config

    @cached_property
    def _folder_config(self) -> dict[str, Any]:
        return folder_config(self.folder)

    @cached_property
    def _units(self) -> Mapping[str, Units]:
        shapes = {name: (entry.shape, entry.dtype) for name, entry in self.tensors.items()}
        known = cut(shapes, model_type(self._about))
        scaled = self._scalings[0]
        hidden = scale_names(scaled, self.tensors) | set(self.packed)
        return {
            name: replace(unit, dtype=scaled[name].dtype) if name in scaled else unit
            for name, unit in known.items()
            if name not in hidden
        }

    @cached_property
    def _scalings(self) -> tuple[dict[str, Scaling], dict[str, str]]:
        return scalings(self.tensors, self._about)

    @property
    def packed(self) -> Mapping[str, str]:
        """Weights whose values cannot be read, each with the reason as the end of a sentence."""
        return self._packed

    @cached_property
    def _packed(self) -> Mapping[str, str]:
        return packed_weights(self.tensors, self._about.get("quantization_config")) | self._scalings[1]

    @property
    def embedding(self) -> str:
        """Name of the input embedding, shape (V, d).

        Raises
        ------
        UserError
            When there is none, more than one, or its values cannot be read.
        """
        return self._embedding

    @cached_property
    def _embedding(self) -> str:
        unread = {**self.packed, **empty_matrices(self.tensors)}
        return find_embedding(self.units, self.name, unread, vocabulary_size(self._about))

    @property
    def head(self) -> str:
        """Name of the output embedding; the input embedding's where the two are tied."""
        return self._head

    @cached_property
    def _head(self) -> str:
        return find_head(self.units, self.name, self.embedding, self.packed)

    @property
    def has_no_head(self) -> bool:
        """Whether no output embedding is stored although the config says that it is a matrix of its own."""
        return is_untied(self._about) and self.head == self.embedding

    def block(self, tensor: str, start: int, stop: int) -> torch.Tensor:
        """Return units `start` to `stop` of a tensor, shape (stop - start, width), in the type that its units have.

        Their bytes are read into memory of their own, not mapped, so that nothing more stays resident.
        """
        stored = self._stored(tensor, self.units[tensor], start, stop)
        scaling = self._scalings[0].get(tensor)
        return stored if scaling is None else scaling.values(stored, start, self._flat(scaling.scales))

    def _flat(self, tensor: str) -> torch.Tensor:
        entry = self.tensors[tensor]
        return self._stored(tensor, Units.of((math.prod(entry.shape),), entry.dtype), 0, 1).reshape(-1)

    def _stored(self, tensor: str, unit: Units, start: int, stop: int) -> torch.Tensor:
        """Return units as they are stored; they may be codes."""
        return read_units(self.tensors[tensor], unit, start, stop)

    def _stored_rows(self, tensor: str, ids: npt.NDArray[np.int64]) -> torch.Tensor:
        return read_rows(self.tensors[tensor], ids)

    def _digest(self, tensor: str) -> str:
        return digest_span(self.tensors[tensor])

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
            content.append([name, str(entry.packed or entry.dtype), list(entry.shape), self._digest(name)])
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
        tensor = self.head if side == "output" else self.embedding
        if tensor not in self._scalings[0]:
            return self._stored_rows(tensor, ids).float()
        blocks = [self.block(tensor, int(i), int(i) + 1).float() for i in ids]
        return torch.cat(blocks) if blocks else torch.empty((0, self.width))

    @property
    def context(self) -> int | None:
        """Tokens that the model looks at at most; None where its config does not say."""
        return next((self.config[key] for key in CONTEXT if type(self.config.get(key)) is int), None)

    @property
    def padding(self) -> int | None:
        """Id of the token that fills a batch; None where the config does not say."""
        return token if type(token := self.config.get("pad_token_id")) is int else None

    def describe(self) -> dict[str, str]:
        """Return what a manifest says of this checkpoint: its name, its fingerprint, and its terms of use where it has some."""
        origin = terms_of(self.folder)
        terms = {} if origin is None else {"license": str(origin.terms)}
        return {"name": located(self.name), "fingerprint": self.fingerprint, **terms}
