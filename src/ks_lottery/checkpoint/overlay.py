"""What an adapter does to each tensor of its base, as PEFT's ``merge_and_unload`` would do it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from ks_lottery.checkpoint.adapter_parts import finite
from ks_lottery.checkpoint.tensors import HEAD_NAMES
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from ks_lottery.checkpoint.adapter_parts import Parts
    from ks_lottery.checkpoint.adapter_settings import AdapterSettings
    from ks_lottery.checkpoint.tensors import Source, Units

TIED_HEAD = "lm_head.weight"
"""Name given to a head that its base ties to the embedding, once the two differ."""


@dataclass(frozen=True)
class Overlay:
    """What an adapter does to one tensor of the base, in float32.

    Parameters
    ----------
    whole
        New values of the tensor in place of the base's, if the adapter saved them, shape (units, width). An embedding that was
        resized has another number of units than the base's.
    left, right, scale
        ``scale * left @ right`` is added: shapes (units, r) and (r, width).
    ids, rows
        Units that are replaced, and their values.
    """

    whole: torch.Tensor | None = None
    left: torch.Tensor | None = None
    right: torch.Tensor | None = None
    scale: float = 0.0
    ids: npt.NDArray[np.int64] | None = None
    rows: torch.Tensor | None = None


def overlays_of(parts: Parts, settings: AdapterSettings, base: Source) -> tuple[dict[str, Overlay], str | None]:
    """Return tensor name to overlay, and the name of a head that the adapter unties from the embedding.

    Raises
    ------
    UserError
        When a part does not fit the base, or PEFT would not use it.
    """
    overlays: dict[str, Overlay] = {}
    tied: dict[str, tuple[str, Overlay]] = {}
    for module, known in parts.items():
        target, is_head = _target(module, base, settings.name)
        builder = _Module(module, target, known, settings, base, is_head=is_head)
        weight = f"{target}.weight"
        for tensor, overlay in builder.overlays().items():
            if tensor != weight:
                overlays[f"{module}.bias" if is_head else tensor] = overlay
            elif weight == base.embedding == base.head:
                tied["output" if is_head else "input"] = (module, overlay)
            elif weight in overlays:
                raise UserError(f"adapter {settings.name} changes {weight} under two names: get the adapter again")
            else:
                overlays[weight] = overlay
    more, head = _tied_overlays(tied, settings, base)
    return {**overlays, **more}, head


def _target(module: str, base: Source, where: str) -> tuple[str, bool]:
    """Return the module of the base, and whether it is a head that the base ties to its embedding."""
    names = {tensor.rpartition(".")[0] for tensor in base.units}
    is_head = module.rpartition(".")[2] in HEAD_NAMES
    # A head that is tied may be stored with its bias alone, as Phi's.
    if is_head and base.head == base.embedding and f"{module}.weight" not in base.units:
        return base.embedding.rpartition(".")[0], True
    if module in names:
        return module, False
    ends = [name for name in names if name and (module.endswith(f".{name}") or name.endswith(f".{module}"))]
    if len(ends) == 1:
        return ends[0], False
    if is_head:  # GPT-NeoX is stored with another name of its head than it has as a module
        return base.head.rpartition(".")[0], False
    raise UserError(f"adapter {where} changes {module}, which {base.name} does not have: give the base it belongs to")


@dataclass(frozen=True)
class _Module:
    """The parts of one module of an adapter, and the module of the base that they change."""

    module: str
    target: str
    parts: Mapping[str, torch.Tensor]
    settings: AdapterSettings
    base: Source
    is_head: bool

    def overlays(self) -> dict[str, Overlay]:
        result: dict[str, Overlay] = {}
        weight = self._weight()
        if weight is not None:
            result[f"{self.target}.weight"] = weight
        bias = self._bias()
        if bias is not None:
            result[f"{self.target}.bias"] = bias
        return result

    def _units(self, tensor: str) -> Units:
        stored = f"{self.module}.bias" if self.is_head and tensor.endswith(".bias") else tensor
        if stored not in self.base.units:
            raise UserError(
                f"adapter {self.settings.name} changes {stored}, which {self.base.name} does not have: give its base"
            )
        return self.base.units[stored]

    @property
    def _vocabulary(self) -> bool:
        return f"{self.target}.weight" in {self.base.embedding, self.base.head}

    def _weight(self) -> Overlay | None:
        parts, where = self.parts, self.settings.name
        if set(parts) <= {"bias", "base_layer.bias", "original_module.bias", "modules_to_save.bias"}:
            return None
        units, tensor = self._units(f"{self.target}.weight"), f"{self.target}.weight"
        stored = parts.get("weight", parts.get("base_layer.weight"))
        whole = None if stored is None else self._whole(stored, units)
        if "lora_A.weight" in parts:
            left, right = parts["lora_B.weight"], parts["lora_A.weight"]
        elif "lora_embedding_A" in parts:
            left, right = (self._matrix(name).T for name in ("lora_embedding_A", "lora_embedding_B"))
        else:
            left = right = None
        count = units.count if whole is None else len(whole)
        scale = 0.0
        if left is not None and right is not None:
            rank = self.settings.rank(self.module)
            self._check_shape("LoRA B", left, (count, rank), tensor)
            self._check_shape("LoRA A", right, (rank, units.width), tensor)
            self._check_targeted()
            left, right = (finite(side, f"LoRA of {tensor}", where) for side in (left, right))
            scale = self.settings.scale(self.module)
        rows, ids = parts.get("trainable_tokens_delta"), None
        if rows is not None:
            ids = self._ids(count, tensor)
            self._check_shape("tokens", rows, (len(ids), units.width), tensor)
            rows = finite(rows, f"tokens of {tensor}", where)
        return Overlay(whole, left, right, scale, ids, rows)

    def _bias(self) -> Overlay | None:
        whole = self.parts.get("bias", self.parts.get("base_layer.bias"))
        added = self.parts.get("lora_B.bias")
        if whole is None and added is None:
            return None
        tensor = f"{self.target}.bias"
        units = self._units(tensor)
        for values in (whole, added):
            resized = values is whole and self._vocabulary and values is not None and values.ndim == 1
            if values is not None and not resized:
                self._check_shape("bias", values, (units.width,), tensor)
        if whole is not None:
            whole = finite(whole, tensor, self.settings.name).reshape(1, -1)
        if added is None:
            return Overlay(whole)
        if whole is not None and len(added) != whole.shape[1]:
            self._check_shape("bias", added, (whole.shape[1],), tensor)
        right = finite(added, f"LoRA of {tensor}", self.settings.name).reshape(1, -1)
        return Overlay(whole, torch.ones(1, 1), right, self.settings.scale(self.module))

    def _whole(self, stored: torch.Tensor, units: Units) -> torch.Tensor:
        """Return a tensor that was saved whole as units; the rows of a vocabulary may be more or fewer than the base's."""
        tensor = f"{self.target}.weight"
        values = stored.T if units.transposed and stored.ndim == 2 else stored
        fits = values.ndim == 1 if not units.matrix else values.ndim >= 2 and values.shape[-1] == units.width
        resized = fits and values.ndim == 2 and self._vocabulary and len(values) > 0
        if not fits or not (resized or values.numel() == units.count * units.width):
            self._check_shape("whole", values, (units.count, units.width), tensor)
            raise self._misfit("whole", values, tensor)
        values = finite(values, tensor, self.settings.name)
        return values.reshape(-1, units.width)

    def _matrix(self, part: str) -> torch.Tensor:
        values = self.parts[part]
        if values.ndim != 2:
            raise self._misfit(part, values, f"{self.target}.weight")
        return values

    def _ids(self, count: int, tensor: str) -> npt.NDArray[np.int64]:
        embedding = f"{self.target}.weight" == self.base.embedding
        ids = self.settings.token_ids(self.module, embedding=embedding)
        if ids is None and self.is_head:  # PEFT copies the tokens of a tied embedding to the head, and names them once
            ids = self.settings.token_ids(self.target, embedding=True)
        if ids is None:
            raise UserError(
                f"adapter {self.settings.name} contains tokens of {self.module}, whose rows its config does not name: "
                "get the adapter again"
            )
        if len(ids) and int(ids.max()) >= count:
            raise UserError(
                f"adapter {self.settings.name} changes row {int(ids.max())} of {tensor}, which has {count:,}: "
                "give the base that the adapter belongs to"
            )
        return ids

    def _check_targeted(self) -> None:
        """Refuse a LoRA that PEFT would pass over, since its config does not say that the module is adapted."""
        reason = self.settings.targets(self.module, vocabulary=self._vocabulary)
        if not self.settings.is_lora:
            reason = "peft_type"
        if reason is not None and not (
            self.settings.ties and self.base.head == self.base.embedding and self._vocabulary
        ):
            raise UserError(
                f"adapter {self.settings.name} contains a LoRA of {self.module}, but its {reason} does not include that "
                "module, so that PEFT would pass over it: get the adapter again"
            )

    def _check_shape(self, part: str, values: torch.Tensor, wanted: tuple[int, ...], tensor: str) -> None:
        if tuple(values.shape) != wanted:
            raise self._misfit(part, values, tensor, wanted)

    def _misfit(self, part: str, values: torch.Tensor, tensor: str, wanted: tuple[int, ...] | None = None) -> UserError:
        expected = "" if wanted is None else f", not {' x '.join(f'{n:,}' for n in wanted)}"
        shape = " x ".join(f"{n:,}" for n in values.shape) or "a single number"
        return UserError(
            f"adapter {self.settings.name}: {part} of {tensor} is {shape}{expected}: "
            "give the base that the adapter belongs to, and the rank in its config"
        )


def _tied_overlays(
    tied: Mapping[str, tuple[str, Overlay]], settings: AdapterSettings, base: Source
) -> tuple[dict[str, Overlay], str | None]:
    """Merge what an adapter does to both sides of a tied embedding.

    PEFT's merge adds a LoRA or writes tokens of either side into the one matrix that both share, and a module saved whole
    (``modules_to_save``) becomes a matrix of its own. Tokens of each side that are not the same are kept on their side, as
    PEFT computes before it merges.
    """
    if not tied:
        return {}, None
    own = {side: overlay for side, (module, overlay) in tied.items() if _is_own(module, overlay, settings)}
    shared = {side: overlay for side, (_, overlay) in tied.items() if side not in own}
    head = tied["output"][0] + ".weight" if "output" in tied else TIED_HEAD
    first, second = shared.get("input"), shared.get("output")
    if first is not None and second is not None and first.ids is not None and second.ids is not None:
        if np.array_equal(first.ids, second.ids) and first.rows is not None and second.rows is not None:
            if not torch.equal(first.rows, second.rows):
                raise UserError(
                    f"adapter {settings.name} has two values for the tokens of a tied embedding: get the adapter again"
                )
            second = replace(second, ids=None, rows=None)
        else:
            return {base.embedding: first, head: second}, head
    both = [overlay for overlay in (first, second) if overlay is not None]
    joined = _joined(both, settings) if both else None
    if not own:
        return ({} if joined is None else {base.embedding: joined}), None
    result = {base.embedding: own.get("input", joined), head: own.get("output", joined)}
    return {name: overlay for name, overlay in result.items() if overlay is not None}, head


def _is_own(module: str, overlay: Overlay, settings: AdapterSettings) -> bool:
    """Say whether a module of a tied embedding was saved whole as a matrix of its own."""
    alone = overlay.whole is not None and overlay.left is None and overlay.ids is None
    return alone and (settings.saves_whole(module) or settings.ties)


def _joined(overlays: list[Overlay], settings: AdapterSettings) -> Overlay:
    """Return what several overlays do to one tensor."""
    wholes = [overlay.whole for overlay in overlays if overlay.whole is not None]
    if any(whole.shape != wholes[0].shape or not torch.equal(whole, wholes[0]) for whole in wholes):
        raise UserError(f"adapter {settings.name} has two matrices for a tied embedding: get the adapter again")
    sums = [o for o in overlays if o.left is not None and o.right is not None]
    rows = next((o for o in overlays if o.ids is not None), Overlay())
    result = Overlay(wholes[0] if wholes else None, ids=rows.ids, rows=rows.rows)
    if len(sums) == 1:
        return replace(result, left=sums[0].left, right=sums[0].right, scale=sums[0].scale)
    if sums:
        left = torch.cat([o.scale * o.left for o in sums if o.left is not None], dim=1)
        right = torch.cat([o.right for o in sums if o.right is not None])
        return replace(result, left=left, right=right, scale=1.0)
    return result
