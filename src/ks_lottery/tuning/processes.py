"""Several processes that train one model: how torchrun or accelerate launch started them, and how they part."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator


def launched() -> bool:
    """Say whether torchrun or accelerate launch started this process as one of several."""
    return "LOCAL_RANK" in os.environ and "WORLD_SIZE" in os.environ


@contextmanager
def joined_processes() -> Generator[bool]:
    """Let each process take its own GPU, and wait for the others at the end; yields whether this is the main one."""
    import torch
    from torch import distributed

    if "LOCAL_RANK" in os.environ and torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    yield os.environ.get("RANK", "0") == "0"
    # Not after an error: the others would not come to the barrier.
    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()
