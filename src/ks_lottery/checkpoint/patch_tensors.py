"""What the tensors of a patch's file must be, checked before they are used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt


def checked_ids(path: Path, ids: torch.Tensor) -> npt.NDArray[np.int64]:
    """Return the ids of a file, as `RowPatch` needs them.

    Raises
    ------
    UserError
        When they are of another type or shape, negative, not ascending, or there twice.
    """
    fault = ""
    if ids.dtype != torch.int64 or ids.ndim != 1:
        fault = f"of type {str(ids.dtype).removeprefix('torch.')} and shape {tuple(ids.shape)}"
    elif bool((ids < 0).any()):
        fault = f"negative ({int(ids.min())})"
    elif bool((ids.diff() <= 0).any()):
        fault = "not in ascending order, or there twice"
    if fault:
        raise UserError(
            f"{path}: its ids are {fault}, but must be ascending row numbers, each once: make the patch again"
        )
    return ids.numpy()


def checked_rows(path: Path, name: str, values: torch.Tensor, count: int) -> torch.Tensor:
    """Return the values of one side of a file, shape (count, d), as `RowPatch` needs them.

    Raises
    ------
    UserError
        When they are of another type or shape, or not finite.
    """
    if values.dtype != torch.float32 or values.ndim != 2 or len(values) != count or not values.shape[1]:
        kind = str(values.dtype).removeprefix("torch.")
        raise UserError(
            f"{path}: {name} is of type {kind} and shape {tuple(values.shape)}, but must be float32 with one row for each of "
            f"the {count:,} ids: make the patch again"
        )
    bad = ~torch.isfinite(values).all(dim=1)
    if bool(bad.any()):
        raise UserError(
            f"{path}: {name} holds NaN or infinite values in its row {int(torch.nonzero(bad)[0])}: the training diverged, or "
            "the file is damaged"
        )
    return values
