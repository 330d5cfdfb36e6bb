"""A PEFT adapter over its base, merged block by block: LoRA, trainable tokens, and modules saved whole.

Must never merge a tensor whole, nor pass over a part of the adapter that it does not understand.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from ks_lottery.checkpoint.adapter_parts import read_parts
from ks_lottery.checkpoint.adapter_settings import ADAPTER_CONFIG, AdapterSettings
from ks_lottery.checkpoint.overlay import TIED_HEAD, Overlay, overlays_of
from ks_lottery.checkpoint.tensors import Source, Units
from ks_lottery.errors import UserError
from ks_lottery.store.manifest import located

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

    from ks_lottery.checkpoint.adapter_parts import Parts
    from ks_lottery.checkpoint.patch import RowPatch

__all__ = ["ADAPTER_CONFIG", "AdaptedCheckpoint", "Overlay"]


@dataclass(frozen=True)
class AdaptedCheckpoint:
    """A base checkpoint as an adapter changes it."""

    base: Source
    name: str
    overlays: Mapping[str, Overlay]
    tied_head: str | None

    @classmethod
    def open(cls, folder: Path, base: Source, name: str | None = None) -> AdaptedCheckpoint:
        """Read an adapter's folder.

        Raises
        ------
        UserError
            When it is damaged, is of another kind than LoRA or trainable tokens, does not fit the base, or has a setting that
            is not implemented.
        """
        where = name or str(folder)
        settings = AdapterSettings.open(folder, where)
        parts = read_parts(folder, where)
        overlays, tied_head = overlays_of(parts, settings, base)
        if settings.starts_at_random:
            _check_complete(parts, settings, base)
        return cls(base, where, overlays, tied_head)

    @classmethod
    def of_patch(cls, patch: RowPatch, base: Source) -> AdaptedCheckpoint:
        """Return what a row patch makes of its base: new rows on its side.

        Where the base ties the two and the patch changes one, the head becomes a tensor of its own.
        """
        apart = base.head == base.embedding and (patch.side != "both" or patch.output_values is not None)
        tied = TIED_HEAD if apart else None
        sides = {base.embedding: patch.values_of("input"), tied or base.head: patch.values_of("output")}
        overlays = {name: Overlay(ids=patch.ids, rows=rows) for name, rows in sides.items() if rows is not None}
        return cls(base, "patch", overlays, tied)

    @property
    def units(self) -> Mapping[str, Units]:
        """Every tensor of floats, as samples; merged values are float32."""
        return self._units

    @cached_property
    def _units(self) -> Mapping[str, Units]:
        known = dict(self.base.units)
        if self.tied_head is not None:
            known[self.tied_head] = known[self.base.embedding]
        return {name: self._changed_units(name, unit) for name, unit in known.items()}

    def _changed_units(self, name: str, unit: Units) -> Units:
        overlay = self.overlays.get(name)
        if overlay is None:
            return unit
        count, width = (unit.count, unit.width) if overlay.whole is None else overlay.whole.shape
        return Units(count, width, torch.float32, unit.matrix, unit.transposed)

    @property
    def embedding(self) -> str:
        """Name of the input embedding."""
        return self.base.embedding

    @property
    def head(self) -> str:
        """Name of the output embedding; the input embedding's where the two are tied."""
        return self.tied_head or self.base.head

    @property
    def folder(self) -> Path:
        """The base's folder: an adapter's tokenizer is its base's."""
        return self.base.folder

    def block(self, tensor: str, start: int, stop: int) -> torch.Tensor:
        """Return units `start` to `stop` of a merged tensor, float32 where the adapter changes it."""
        stored = self.base.embedding if tensor == self.tied_head else tensor
        overlay = self.overlays.get(tensor)
        if overlay is None:
            return self.base.block(stored, start, stop)
        whole = overlay.whole
        block = self.base.block(stored, start, stop).float() if whole is None else whole[start:stop].clone()
        if overlay.left is not None and overlay.right is not None:
            block += overlay.scale * (overlay.left[start:stop] @ overlay.right)
        if overlay.ids is not None and overlay.rows is not None:
            inside = (overlay.ids >= start) & (overlay.ids < stop)
            block[torch.from_numpy(overlay.ids[inside] - start)] = overlay.rows[torch.from_numpy(inside)]
        return block

    def changed(self, tensor: str) -> npt.NDArray[np.int64] | None:
        """Return the units that the adapter may change."""
        overlay = self.overlays.get(tensor)
        if overlay is None:
            return np.empty(0, dtype=np.int64)
        if overlay.left is None and overlay.whole is None and overlay.ids is not None:
            return np.sort(overlay.ids)
        return np.arange(self.units[tensor].count, dtype=np.int64)

    def is_changed(self, tensor: str) -> bool:
        """Say whether any value of a tensor differs from the base's; of the base no more is read than up to a difference."""
        overlay, stored = self.overlays.get(tensor), self.base.embedding if tensor == self.tied_head else tensor
        if overlay is None:
            return False
        unit, before = self.units[tensor], self.base.units[stored]
        if (unit.count, unit.width) != (before.count, before.width):
            return True
        if overlay.whole is None and overlay.ids is None and overlay.left is not None and overlay.right is not None:
            return bool(overlay.left.any()) and bool(overlay.right.any()) and overlay.scale != 0
        size = max(1, (4 << 20) // (4 * unit.width))
        return any(
            not torch.equal(
                self.block(tensor, start, min(start + size, unit.count)),
                self.base.block(stored, start, min(start + size, unit.count)).float(),
            )
            for start in range(0, unit.count, size)
        )

    def describe(self) -> dict[str, str]:
        """Return what a manifest says of it."""
        return {"name": located(self.name)}


def _check_complete(parts: Parts, settings: AdapterSettings, base: Source) -> None:
    """Refuse an adapter without values of a module, which PEFT would give random ones that change what is merged."""
    stored = [name for name, known in parts.items() if known.keys() & {"lora_A.weight", "lora_embedding_A"}]
    for tensor, unit in base.units.items():
        module = tensor.removesuffix(".weight")
        if (
            not unit.matrix
            or module == tensor
            or settings.targets(module, vocabulary=tensor in {base.embedding, base.head})
        ):
            continue
        if not any(module == name or name.endswith(f".{module}") or module.endswith(f".{name}") for name in stored):
            raise UserError(
                f"adapter {settings.name} has no values of {module}, which its target_modules include: get the adapter again"
            )
