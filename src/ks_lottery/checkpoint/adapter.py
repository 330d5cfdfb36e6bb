"""A PEFT adapter over its base, merged block by block: LoRA, trainable tokens, and modules saved whole.

Must never merge a tensor whole, nor pass over a part of the adapter that it does not understand.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ks_lottery.checkpoint.tensors import HEAD_NAMES, Source, Units
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

    from ks_lottery.checkpoint.patch import RowPatch

ADAPTER_CONFIG = "adapter_config.json"

TIED_HEAD = "lm_head.weight"
"""Name given to a head that its base ties to the embedding, once the two differ."""

KNOWN = {"LORA", "TRAINABLE_TOKENS"}
"""Kinds of adapters that change weights in a way that can be merged here."""

PARTS = re.compile(
    r"^base_model\.model\.(?P<module>.+?)\."
    r"(?P<part>lora_A\.weight|lora_B\.weight|lora_embedding_A|lora_embedding_B|(?:token_adapter\.)?trainable_tokens_delta"
    r"|base_layer\.(?:weight|bias)|weight|bias)$"
)
"""Names of tensors in an adapter: LoRA (Hu et al., 2021), trainable tokens, biases, and modules saved whole."""


@dataclass(frozen=True)
class Overlay:
    """What an adapter does to one tensor of the base, in float32.

    Parameters
    ----------
    whole
        New values of the tensor in place of the base's, if the adapter saved them.
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
            When it is damaged, of another kind than LoRA or trainable tokens, or does not fit the base.
        """
        where = name or str(folder)
        try:
            config: dict[str, Any] = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{folder / ADAPTER_CONFIG} cannot be read as JSON: get the adapter again") from error
        if config.get("peft_type") not in KNOWN or config.get("use_dora") or config.get("use_qalora"):
            kind = "DoRA" if config.get("use_dora") else config.get("peft_type")
            raise UserError(
                f"adapter {where} is of kind {kind}, which changes more than LoRA and trainable tokens do: "
                "merge it with PEFT, and compare the merged folder"
            )
        parts: dict[str, dict[str, torch.Tensor]] = {}
        for key, tensor in _tensors(folder).items():
            match = PARTS.match(key)
            if match is None:
                raise UserError(f"adapter {where} holds {key}, which is not understood: merge it with PEFT first")
            parts.setdefault(match["module"], {})[match["part"].removeprefix("token_adapter.")] = tensor.float()
        overlays: dict[str, Overlay] = {}
        tied = None
        for module, known in parts.items():
            target, is_head = _target(module, base, where)
            if is_head:
                tied = f"{module}.weight"
            for tensor, overlay in _overlays(module, target, known, config, base.units.get(f"{target}.weight")).items():
                of_head = is_head and tensor.endswith(".weight")
                wanted = tied if of_head and tied else f"{module}.bias" if is_head else tensor
                stored = tensor if of_head or not is_head else wanted
                if stored not in base.units:
                    raise UserError(f"adapter {where} changes {wanted}, which {base.name} does not have: give its base")
                _check(overlay, base.units[stored], stored, where)
                overlays[wanted] = overlay
            saved_whole = f"{target}.weight" == base.embedding == base.head and "weight" in known
            if saved_whole and not is_head and not config.get("ensure_weight_tying"):
                tied = tied or TIED_HEAD  # PEFT gives the embedding a matrix of its own, and the head keeps the base's
        return cls(base, where, overlays, tied)

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
        changed = {t: Units(u.count, u.width, torch.float32, u.matrix, u.transposed) for t, u in known.items()}
        return {name: changed[name] if name in self.overlays else unit for name, unit in known.items()}

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

    def describe(self) -> dict[str, str]:
        """Return what a manifest says of it."""
        return {"name": self.name}


def _tensors(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from ks_lottery.checkpoint.pickled import read_pickle

    file = folder / "adapter_model.safetensors"
    if file.is_file():
        try:
            return load_file(file)
        except (SafetensorError, OSError) as error:
            raise UserError(f"{file} is truncated or no safetensors file: get it again") from error
    if (folder / "adapter_model.bin").is_file():
        return read_pickle(folder / "adapter_model.bin")
    raise UserError(f"{folder} has an {ADAPTER_CONFIG} but no adapter_model.safetensors: get the adapter again")


def _target(module: str, base: Source, where: str) -> tuple[str, bool]:
    """Return the module of the base, and whether it is a head that the base ties to its embedding."""
    is_head = module.rpartition(".")[2] in HEAD_NAMES
    if is_head and base.head == base.embedding:
        return base.embedding.rpartition(".")[0], True
    names = {tensor.rpartition(".")[0] for tensor in base.units}
    if module in names:
        return module, False
    ends = [name for name in names if name and (module.endswith(f".{name}") or name.endswith(f".{module}"))]
    if len(ends) == 1:
        return ends[0], False
    if is_head:  # GPT-NeoX is stored with another name of its head than it has as a module
        return base.head.rpartition(".")[0], False
    raise UserError(f"adapter {where} changes {module}, which {base.name} does not have: give the base it belongs to")


def _overlays(
    module: str, target: str, parts: Mapping[str, torch.Tensor], config: Mapping[str, Any], units: Units | None
) -> dict[str, Overlay]:
    """Return tensor name to overlay for the parts of one module."""
    result: dict[str, Overlay] = {}
    for bias in ("bias", "base_layer.bias"):
        if bias in parts:
            result[f"{target}.bias"] = Overlay(whole=parts[bias].reshape(1, -1))
    if set(parts) <= {"bias", "base_layer.bias"} or units is None:
        return result
    # PEFT saves the base's own matrix too where an adapter sits on an embedding: base_layer.weight.
    whole, left, right, ids = parts.get("weight", parts.get("base_layer.weight")), None, None, None
    if whole is not None:
        whole = whole.T if units.transposed else whole
        whole = whole.reshape(units.count, units.width)
    if "lora_A.weight" in parts:
        left, right = parts["lora_B.weight"], parts["lora_A.weight"]
    elif "lora_embedding_A" in parts:
        left, right = parts["lora_embedding_A"].T, parts["lora_embedding_B"].T
    rows = parts.get("trainable_tokens_delta")
    if rows is not None:
        ids = _token_ids(module, config)
    scale = 0.0 if right is None else _scale(module, config, len(right))
    result[f"{target}.weight"] = Overlay(whole, left, right, scale, ids, rows)
    return result


def _scale(module: str, config: Mapping[str, Any], rank: int) -> float:
    """Return lora_alpha / r, or lora_alpha / sqrt(r) for rank-stabilised LoRA (Kalajdzievski, 2023)."""
    alpha = float(config.get("lora_alpha", 8))
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            alpha = float(value)
            break
    return alpha / (rank**0.5 if config.get("use_rslora") else rank)


def _token_ids(module: str, config: Mapping[str, Any]) -> npt.NDArray[np.int64]:
    given = config.get("trainable_token_indices") or config.get("token_indices") or []
    if isinstance(given, dict):
        given = next((ids for name, ids in given.items() if module == name or module.endswith(f".{name}")), [])
    return np.array(given, dtype=np.int64)


def _check(overlay: Overlay, units: Units, tensor: str, where: str) -> None:
    shapes = {
        "whole": (overlay.whole, (units.count, units.width)),
        "LoRA B": (overlay.left, (units.count, None)),
        "LoRA A": (overlay.right, (None, units.width)),
        "tokens": (overlay.rows, (None if overlay.ids is None else len(overlay.ids), units.width)),
    }
    for part, (values, wanted) in shapes.items():
        if values is not None and any(w is not None and w != n for n, w in zip(values.shape, wanted, strict=False)):
            raise UserError(
                f"adapter {where}: {part} of {tensor} is {tuple(values.shape)}, but the base's tensor is cut into "
                f"{units.count:,} x {units.width:,}: give the base that the adapter belongs to"
            )
    if overlay.ids is not None and len(overlay.ids) and int(overlay.ids.max()) >= units.count:
        raise UserError(f"adapter {where} changes row {int(overlay.ids.max())} of {tensor}, which has {units.count:,}")
