"""Converts a GGUF file, once, into a safetensors folder in the cache; its floats are those of the quantisation."""

from __future__ import annotations

import io
import json
import warnings
from contextlib import redirect_stderr
from typing import TYPE_CHECKING, Any

from ks_lottery.checkpoint.file_bytes import is_there, unreadable
from ks_lottery.checkpoint.gguf_header import read_gguf
from ks_lottery.errors import AssetNotice, UserError
from ks_lottery.report.forms import size
from ks_lottery.store.assets import cache_folder
from ks_lottery.store.embedded_models import ORIGIN_FILE
from ks_lottery.store.files import new_folder
from ks_lottery.store.manifest import digest_file

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

REASON = 300
"""Characters of an error of transformers that are shown."""


def converted(gguf: Path) -> Path:
    """Return the folder with safetensors (float32), tokenizer and config of a GGUF file; the first call makes it.

    The folder is named for the SHA-256 of the file, and appears whole or not at all.

    Raises
    ------
    UserError
        When the file is missing, is not a GGUF file, is truncated, or has an architecture that transformers cannot read.
    """
    digest, folder = _place(gguf)
    if folder.is_dir():
        return folder
    floats = 4 * read_gguf(gguf).elements
    notice = f"{gguf.name} ({size(gguf.stat().st_size)}) is converted once, into {size(floats)} of float32 in {folder.parent}"
    warnings.warn(AssetNotice(notice), stacklevel=2)
    with new_folder(folder, shared=True) as temporary:
        _convert(gguf, temporary, digest)
    return folder


def converted_before(gguf: Path) -> Path | None:
    """Return the folder that `converted` made of a GGUF file earlier; None where there is none.

    Raises
    ------
    UserError
        When the file is missing or cannot be read.
    """
    folder = _place(gguf)[1]
    return folder if folder.is_dir() else None


def _place(gguf: Path) -> tuple[str, Path]:
    """Return the SHA-256 of a file, and the folder of its conversion."""
    if not is_there(gguf):
        raise UserError(f"model file {gguf} does not exist")
    try:
        digest = digest_file(gguf)
    except OSError as error:
        raise unreadable(gguf, error) from error
    return digest, cache_folder() / "models" / f"gguf-{digest[:16]}"


def gguf_tokenizer(gguf: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer in a GGUF file, without its weights.

    Raises
    ------
    UserError
        When it has none that transformers can read.
    """
    from transformers import AutoTokenizer

    from ks_lottery.models.quiet import quiet

    with quiet(), redirect_stderr(io.StringIO()):
        try:
            return AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name, local_files_only=True)
        except Exception as error:  # what a damaged file makes transformers raise has no common type
            raise unsuitable(gguf, error) from error


def unsuitable(gguf: Path, error: Exception) -> UserError:
    """Return the sentence for a file that transformers refuses."""
    reason = " ".join(str(error).split())[:REASON]
    return UserError(f"{gguf} is damaged or of a kind that transformers cannot read: {reason}")


def _convert(gguf: Path, folder: Path, digest: str) -> None:
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM

    from ks_lottery.models.quiet import quiet

    tokenizer = gguf_tokenizer(gguf)
    # The conversion draws a bar that transformers cannot switch off.
    with quiet(), redirect_stderr(io.StringIO()):
        try:
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                str(gguf.parent),
                gguf_file=gguf.name,
                dtype=torch.float32,
                local_files_only=True,
                output_loading_info=True,
            )
        except Exception as error:  # what a damaged file makes transformers raise has no common type
            raise unsuitable(gguf, error) from error
    model, info = loaded
    if info["missing_keys"]:  # which transformers would fill with random numbers
        raise UserError(f"{gguf} lacks the tensor {min(info['missing_keys'])} of its architecture: get the file again")
    tensors: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() not in seen:  # a tied head is the embedding under another name
            tensors[name] = tensor.contiguous()
            seen.add(tensor.data_ptr())
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config: Any = model.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.architectures = [type(model).__name__]
    config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    origin = {"source": gguf.name, "sha256": digest, "note": "floats of the quantised values"}
    (folder / ORIGIN_FILE).write_text(json.dumps(origin, indent=2) + "\n", encoding="utf-8")
