"""Where a model runs, and in which type."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ks_lottery.errors import UserError

if TYPE_CHECKING:
    import torch


def choose_device(device: str = "auto") -> str:
    """Return the device to run on; ``auto`` is a GPU where there is one.

    Raises
    ------
    UserError
        When this machine does not have the device.
    """
    import torch

    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if available[name])
    if not available.get(device, False):
        raise UserError(f"device {device} is not available on this machine: use auto or cpu")
    return device


def choose_dtype(dtype: str, device: str) -> torch.dtype:
    """Return the type of the frozen body; ``auto`` is bfloat16 where the processor computes in it."""
    import torch

    if dtype != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[dtype]
    if device == "cuda":
        fast = torch.cuda.is_bf16_supported()
    elif device == "cpu":
        capability = torch.backends.cpu.get_cpu_capability() if hasattr(torch.backends, "cpu") else ""
        fast = "AVX512" in capability and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001
    else:
        fast = False
    return torch.bfloat16 if fast else torch.float32
