"""The tensors of an adapter, read safely and sorted by module; what PEFT would pass over or cannot use is refused."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch

from ks_lottery.checkpoint.adapter_settings import ADAPTER_CONFIG
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")

PARTS = re.compile(
    r"^base_model\.model\.(?P<module>.+?)\."
    r"(?P<part>lora_A\.weight|lora_B\.weight|lora_B\.bias|lora_embedding_A|lora_embedding_B"
    r"|(?:token_adapter\.)?trainable_tokens_delta|(?:token_adapter\.)?base_layer\.weight|base_layer\.bias"
    r"|(?:original_module|modules_to_save)\.(?:weight|bias)|weight|bias)$"
)
"""Names of tensors in an adapter: LoRA (Hu et al., 2021), trainable tokens, biases, and modules saved whole."""

COPIES = {f"{copy}.{part}" for copy in ("original_module", "modules_to_save") for part in ("weight", "bias")}
"""What PEFT saves once more where a module saved whole is an embedding; it loads ``weight`` and ``bias`` alone."""

TOGETHER = (
    ({"lora_A.weight", "lora_B.weight"}, {"lora_B.bias", "base_layer.weight", "base_layer.bias"}),
    ({"lora_embedding_A", "lora_embedding_B"}, {"base_layer.weight"}),
    ({"trainable_tokens_delta"}, {"base_layer.weight"}),
    ({"base_layer.bias"}, set[str]()),
    ({"weight"}, {"bias", *COPIES}),
    ({"bias"}, COPIES - {"original_module.weight", "modules_to_save.weight"}),
)
"""Parts that a module must have together, and those that it may have beside them; PEFT passes over any other."""

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
"""Types of an adapter's tensors."""

Parts = dict[str, dict[str, torch.Tensor]]


def read_parts(folder: Path, where: str) -> Parts:
    """Read the tensors of an adapter: module to part to values, as they are stored.

    Raises
    ------
    UserError
        When the file is missing, is damaged or contains more than tensors; or when a tensor has an unknown name, does not
        contain floats, or has no counterpart.
    """
    parts: Parts = {}
    for key, tensor in _tensors(folder, where).items():
        match = PARTS.match(key)
        if match is None:
            raise UserError(f"adapter {where} contains {key}, which is not understood: merge it with PEFT first")
        if tensor.dtype not in FLOATS or tensor.layout != torch.strided or tensor.is_meta:
            kind = str(tensor.dtype).removeprefix("torch.")
            raise UserError(f"adapter {where}: {key} is of type {kind}, but must be of floats: get the adapter again")
        module = parts.setdefault(match["module"], {})
        part = match["part"].removeprefix("token_adapter.")
        if part in module:
            raise UserError(f"adapter {where} contains {part} of {match['module']} twice: get the adapter again")
        module[part] = tensor
    if not parts:
        raise UserError(f"adapter {where} contains no tensor: get the adapter again")
    for module, known in parts.items():
        if not any(must <= known.keys() <= must | may for must, may in TOGETHER):
            raise UserError(
                f"adapter {where}: {module} has {' and '.join(sorted(known))} and nothing else, from which no change follows: "
                "get the adapter again, or merge it with PEFT"
            )
    return parts


def finite(values: torch.Tensor, part: str, where: str) -> torch.Tensor:
    """Return values as float32.

    Raises
    ------
    UserError
        When one is NaN or infinite.
    """
    values = values.float()
    if not bool(torch.isfinite(values).all()):
        raise UserError(
            f"adapter {where}: {part} holds NaN or infinite values: the training diverged, or the file is damaged"
        )
    return values


def _tensors(folder: Path, where: str) -> Mapping[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from ks_lottery.checkpoint.pickled import read_pickle

    file = next((folder / name for name in WEIGHTS if (folder / name).exists()), None)
    if file is None:
        raise UserError(f"{where} has an {ADAPTER_CONFIG} but no {WEIGHTS[0]}: get the adapter again")
    if not file.is_file():
        raise UserError(f"{file} is not a regular file: get the adapter again")
    if file.name == WEIGHTS[1]:
        return read_pickle(file)
    try:
        return load_file(file)
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
        raise UserError(f"{file} is truncated or no safetensors file: get it again") from error
