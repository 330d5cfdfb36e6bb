"""The GGUF file of a base: the one that it was opened from, or one that llama.cpp's script makes of it for a while."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ks_lottery.checkpoint.file_bytes import path_of
from ks_lottery.checkpoint.gguf_file import floats, rows_of
from ks_lottery.checkpoint.gguf_header import read_gguf
from ks_lottery.checkpoint.gguf_rows import EMBEDDING
from ks_lottery.checkpoint.memory import MemoryCheckpoint
from ks_lottery.errors import UserError
from ks_lottery.models.gguf_converter import converted_to_gguf
from ks_lottery.models.quiet import quiet
from ks_lottery.store.assets import cache_folder
from ks_lottery.store.embedded_models import ORIGIN_FILE, model_gguf
from ks_lottery.store.files import read_json
from ks_lottery.store.manifest import digest_file

if TYPE_CHECKING:
    from collections.abc import Generator

    from ks_lottery.checkpoint.gguf_header import GgufHeader
    from ks_lottery.checkpoint.reader import Checkpoint

BLOCK = 1 << 14
"""Rows that are compared at a time."""


@contextmanager
def base_gguf(checkpoint: Checkpoint) -> Generator[Path]:
    """Give the GGUF file of a base inside a block: the one that it was opened from, or one that is made for the block.

    Raises
    ------
    UserError
        When the file is no longer the one that was opened, or the base cannot be converted.
    """
    source = source_gguf(checkpoint)
    if source is not None:
        yield source
        return
    place = cache_folder()
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place, prefix="gguf-") as scratch:
        folder, out = checkpoint.folder, Path(scratch) / "base.gguf"
        if isinstance(checkpoint, MemoryCheckpoint):
            folder = Path(scratch) / "saved"
            with quiet():
                checkpoint.model.save_pretrained(folder)
                if checkpoint.tokenizer is not None:
                    checkpoint.tokenizer.save_pretrained(folder)
        dtype = str(checkpoint.units[checkpoint.embedding].dtype)
        converted_to_gguf(folder, out, dtype, checkpoint.name)
        yield out


def source_gguf(checkpoint: Checkpoint) -> Path | None:
    """Return the GGUF file that a checkpoint was opened from; None where it was another kind of model.

    Raises
    ------
    UserError
        When that file is not there any more, or has other content.
    """
    origin = checkpoint.folder / ORIGIN_FILE
    name = checkpoint.name
    if not origin.is_file() or not (name.startswith("asset:") or name.endswith(".gguf")):
        return None
    file = model_gguf(name) if name.startswith("asset:") else path_of(name)
    if not file.is_file() or digest_file(file) != read_json(origin).get("sha256"):
        raise UserError(f"{file} is not there any more, or was changed: give the GGUF file of the base as `base`")
    return file


def checked_gguf(file: Path, checkpoint: Checkpoint) -> GgufHeader:
    """Return the header of a base's file, whose matrix must be the checkpoint's, row for row.

    Raises
    ------
    UserError
        When it is not, or the file cannot be read.
    """
    header = read_gguf(file)
    packed, kind = rows_of(header, EMBEDDING), header.tensors[EMBEDDING].kind
    count, same = checkpoint.vocabulary, len(packed) == checkpoint.vocabulary
    for start in range(0, count, BLOCK) if same else ():
        wanted = checkpoint.block(checkpoint.embedding, start, min(start + BLOCK, count)).float().numpy()
        same = same and np.array_equal(floats(packed[start : start + BLOCK], kind), wanted)
    if not same:
        raise UserError(
            f"{checkpoint.name}: the embedding of its GGUF file is not that of the checkpoint, so that its rows cannot be "
            "replaced: export it as merged"
        )
    return header
