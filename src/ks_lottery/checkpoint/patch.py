"""New values for some rows of the embedding of one base checkpoint; everything else is the base, bit for bit.

Must never hold more than the rows it changes, nor be applied to another base than its own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ks_lottery.artifacts import FORMAT, digest_bytes, manifest, replacing
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

    from ks_lottery.checkpoint.attribution import Attribution
    from ks_lottery.checkpoint.reader import Checkpoint

PATCH_FILE = "patch.safetensors"


@dataclass(frozen=True)
class RowPatch:
    """New rows for the input side of a base model's embedding.

    Parameters
    ----------
    ids
        Rows that change, shape (K,), ascending and unique, 0 <= id < V.
    values
        Their new values, shape (K, d), float32.
    base
        Name and fingerprint of the checkpoint that they belong to.
    settings
        How they were made.
    attribution
        What each row contributed, where embed tuning made the patch; saved beside it, and read by `Attribution.open`.
    """

    ids: npt.NDArray[np.int64]
    values: torch.Tensor
    base: Mapping[str, str]
    settings: Mapping[str, Any] = field(default_factory=dict)
    attribution: Attribution | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Check that ids and values fit each other."""
        if self.ids.ndim != 1 or np.any(np.diff(self.ids) <= 0) or np.any(self.ids < 0):
            raise ValueError("ids must be one-dimensional, ascending, unique and not negative")
        if self.values.ndim != 2 or len(self.values) != len(self.ids) or self.values.dtype != torch.float32:
            raise ValueError("values must be a float32 tensor with one row for each id")

    def __len__(self) -> int:
        """Return the number K of rows."""
        return len(self.ids)

    @property
    def parameters(self) -> int:
        """Number of trained parameters, K x d."""
        return self.values.numel()

    @property
    def content(self) -> str:
        """SHA-256 of ids and values."""
        return digest_bytes(self.ids.tobytes() + self.values.contiguous().numpy().tobytes())

    def restrict(self, ids: npt.NDArray[np.int64]) -> RowPatch:
        """Keep the new values of `ids` alone: the partial transfer of the paper (section 3.3).

        Rows of `ids` that the patch does not change are the base's already and are left out.
        """
        keep = np.isin(self.ids, ids)
        settings = {**self.settings, "restricted_from": self.content, "restricted_to": len(ids)}
        return RowPatch(self.ids[keep], self.values[torch.from_numpy(keep)], self.base, settings)

    def check_base(self, checkpoint: Checkpoint) -> None:
        """Refuse another base than the one the patch was made on.

        Raises
        ------
        UserError
            When the weights differ.
        """
        if self.base.get("fingerprint") != checkpoint.fingerprint:
            raise UserError(
                f"the patch was made on {self.base.get('name')} with fingerprint {self.base.get('fingerprint', '')[:12]}, "
                f"but {checkpoint.name} has {checkpoint.fingerprint[:12]}: give the base that the patch belongs to"
            )

    def save(self, folder: Path) -> int:
        """Write ``patch.safetensors``, its manifest inside as metadata, and return its size in bytes."""
        from safetensors.torch import save_file

        about = manifest("row-patch", made_from={"base": dict(self.base)}, settings=self.settings)
        tensors = {"ids": torch.from_numpy(self.ids.copy()), "values": self.values.contiguous()}
        path = folder / PATCH_FILE
        with replacing(path) as temporary:
            save_file(tensors, temporary, metadata={"ks-lottery": json.dumps({**about, "side": "input"})})
        if self.attribution is not None:
            self.attribution.save(folder)
        return path.stat().st_size

    @classmethod
    def open(cls, folder: Path) -> RowPatch:
        """Read a patch folder, or the file in it.

        Raises
        ------
        UserError
            When it is missing, damaged, or was written by a newer version.
        """
        from safetensors import SafetensorError, safe_open

        path = folder / PATCH_FILE if folder.is_dir() else folder
        if not path.is_file():
            raise UserError(f"{folder} holds no {PATCH_FILE}: give the folder of a patch, such as runs/demo/partial")
        try:
            with safe_open(path, "pt") as opened:
                about = json.loads((opened.metadata() or {}).get("ks-lottery", "{}"))
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a dict)
        except (SafetensorError, OSError, ValueError) as error:
            raise UserError(f"{path} is not a whole safetensors file: make the patch again") from error
        if about.get("kind") != "row-patch" or set(tensors) != {"ids", "values"}:
            raise UserError(f"{path} is not a row patch")
        if int(about.get("format", 0)) > FORMAT:
            raise UserError(f"{path} was written by a newer ks-lottery: update this one")
        return cls(tensors["ids"].numpy(), tensors["values"], about["made_from"]["base"], about["settings"])
