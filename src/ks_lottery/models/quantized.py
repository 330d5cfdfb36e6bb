"""A frozen body in 4 bits: NF4 with double quantisation as in QLoRA (Dettmers et al., 2023), through bitsandbytes."""

from __future__ import annotations

import logging
from importlib import util
from typing import TYPE_CHECKING, Any

from ks_lottery.config.choices import QUANTIZATIONS
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    import torch
    from transformers import BitsAndBytesConfig


def missing_quantization() -> str:
    """Return what a body in 4 bits lacks on this machine, and how to get it; empty for nothing."""
    return "" if util.find_spec("bitsandbytes") else "bitsandbytes: pip install 'ks-lottery[qlora]'"


def check_quantization(kind: str) -> None:
    """Refuse a body in 4 bits that this machine cannot have, before a model is opened.

    Raises
    ------
    UserError
        When the kind is not known, or bitsandbytes is not installed.
    """
    if kind not in QUANTIZATIONS:
        raise UserError(f"quantisation {kind} is not known; there is {', '.join(QUANTIZATIONS)}")
    if missing := missing_quantization():
        raise UserError(f"a body in 4 bits needs {missing}")


def quantization_config(kind: str, compute: torch.dtype) -> BitsAndBytesConfig:
    """Return how a body is quantised; for `load_model`.

    Parameters
    ----------
    kind
        ``nf4``.
    compute
        Type that is computed in: float32 or bfloat16.

    Raises
    ------
    UserError
        When the kind is not known, or bitsandbytes is not installed.
    """
    check_quantization(kind)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns of missing kernels on any machine
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
    )


def keep_as_stored(model: Any) -> None:
    """Have bitsandbytes always compute with the stored values.

    On processors with bfloat16 it packs a matrix again at the first call without gradients: its scales are rounded to
    bfloat16, so that the frozen body would change, and widths that are not a multiple of the block fail.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
