"""Several processes that train one model: how torchrun or accelerate launch started them, and how they part."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping


def launched() -> bool:
    """Say whether torchrun or accelerate launch started this process as one of several."""
    return "LOCAL_RANK" in os.environ and "WORLD_SIZE" in os.environ


def share_of(training: Mapping[str, Any], processes: int) -> dict[str, Any]:
    """Return the settings of each of several processes that train together, whose steps have the same examples as one's.

    Parameters
    ----------
    training
        Settings of one process, fields of `TrainConfig`.

    Raises
    ------
    UserError
        When the processes cannot have equal shares.

    Examples
    --------
    >>> share_of({"batch_size": 8, "gradient_accumulation": 1}, 2)
    {'batch_size': 4, 'gradient_accumulation': 1}
    """
    size, batches = training["batch_size"], training["gradient_accumulation"]
    if size % processes == 0:
        return {**training, "batch_size": size // processes}
    if batches % processes == 0:
        return {**training, "gradient_accumulation": batches // processes}
    raise UserError(
        f"`processes` is {processes}, but batches of {size} with {batches} a step cannot be shared out evenly: give a number "
        "that divides one of them"
    )


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
