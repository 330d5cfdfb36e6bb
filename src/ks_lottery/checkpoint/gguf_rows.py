"""The two embeddings of a GGUF file, read row by row: the file is neither converted nor read as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ks_lottery.checkpoint.file_bytes import read_at
from ks_lottery.checkpoint.gguf_header import GgufHeader, read_gguf
from ks_lottery.checkpoint.tensors import Units
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

EMBEDDING, HEAD = "token_embd.weight", "output.weight"
"""GGUF's names of the embeddings; a file without the second ties the two."""


@dataclass(frozen=True)
class GgufRows:
    """A GGUF file as one side of a comparison of embeddings; its floats are those of the quantisation, as float32.

    Parameters
    ----------
    folder
        The file itself, in which the tokenizer lies too.
    name
        What the user called it.
    header
        Its header.
    units
        Its embeddings, by GGUF's names.
    """

    folder: Path
    name: str
    header: GgufHeader
    units: Mapping[str, Units]

    @classmethod
    def open(cls, file: Path, name: str | None = None) -> GgufRows:
        """Read the header of a file.

        Raises
        ------
        UserError
            When the file is damaged, is not GGUF, or does not store the embedding row by row.
        """
        header, where = read_gguf(file), name or str(file)
        units: dict[str, Units] = {}
        for tensor in (EMBEDDING, HEAD):
            entry = header.tensors.get(tensor)
            if entry is None:
                continue
            if len(entry.shape) != 2 or not all(entry.shape) or entry.shape[1] % _block(entry.kind)[0]:
                raise UserError(f"{where}: tensor {tensor} is not a matrix of whole rows: convert the file again")
            units[tensor] = Units.of(entry.shape, torch.float32)
        if EMBEDDING not in units:
            raise UserError(f"{where} has no input embedding: give a causal language model's file")
        return cls(file, where, header, units)

    @property
    def embedding(self) -> str:
        """Name of the input embedding."""
        return EMBEDDING

    @property
    def head(self) -> str:
        """Name of the output embedding; the input embedding's where the two are tied."""
        return HEAD if HEAD in self.units else EMBEDDING

    @property
    def vocabulary(self) -> int:
        """Number V of rows of the embedding."""
        return self.units[EMBEDDING].count

    @property
    def context(self) -> int | None:
        """Tokens that the model looks at at most; None where the file does not say."""
        return self.header.setting("context_length")

    @property
    def padding(self) -> int | None:
        """Id of the token that fills a batch; None where the file does not say."""
        return token if type(token := self.header.about.get("tokenizer.ggml.padding_token_id")) is int else None

    def block(self, tensor: str, start: int, stop: int) -> torch.Tensor:
        """Return rows `start` to `stop` of an embedding, shape (stop - start, d), float32; only their bytes are read."""
        from gguf import GGMLQuantizationType
        from gguf.quants import dequantize

        entry, width = self.header.tensors[tensor], self.units[tensor].width
        block, size = _block(entry.kind)
        length = width // block * size
        stored = read_at(self.folder, entry.start + start * length, (stop - start) * length)
        try:
            values = dequantize(stored.reshape(stop - start, length), GGMLQuantizationType(entry.kind))
        except NotImplementedError as error:
            raise UserError(f"{self.name}: tensor {tensor} cannot be read ({error}): convert the file again") from error
        return torch.from_numpy(values.reshape(stop - start, width).copy())

    def rows(self, ids: npt.NDArray[np.int64], side: str = "input") -> torch.Tensor:
        """Return rows `ids` of an embedding, shape (K, d), float32; see `Checkpoint.rows`."""
        tensor = self.head if side == "output" else self.embedding
        rows = [self.block(tensor, int(row), int(row) + 1) for row in ids]
        return torch.cat(rows) if rows else torch.empty((0, self.units[tensor].width))

    def changed(self, tensor: str) -> None:  # noqa: ARG002 (a file stands alone)
        """Return None for any `tensor`: what this file was made from is not known."""
        return


def _block(kind: int) -> tuple[int, int]:
    """Return the values that a type stores together, and their bytes."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    return GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
