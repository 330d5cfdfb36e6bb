"""A model in memory, read like a checkpoint on disk: its own tensors, of which nothing is copied but the block asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ks_lottery.checkpoint.headers import TensorEntry
from ks_lottery.checkpoint.reader import Checkpoint
from ks_lottery.checkpoint.spans import digest_values, units_of
from ks_lottery.errors import UserError
from ks_lottery.store.manifest import digest_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from ks_lottery.checkpoint.tensors import Units


@dataclass(frozen=True, eq=False, repr=False)
class MemoryCheckpoint(Checkpoint):
    """A model in memory.

    Its fingerprint is that of the folder that the model would be saved to. It follows the weights: after they were trained it
    is another one.

    Parameters
    ----------
    model
        The language model, a `transformers.PreTrainedModel`.
    tokenizer
        Its tokenizer; None where there is none, which a scan does not need.
    values
        The model's tensors by their name in a file, shared with it; one that is tied to another is there once.
    """

    model: Any = None
    tokenizer: Any = None
    values: Mapping[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    _known: dict[str, Any] = field(default_factory=dict[str, Any], init=False)

    @classmethod
    def of(cls, model: Any, tokenizer: Any = None, name: str | None = None) -> MemoryCheckpoint:
        """Read a model.

        Parameters
        ----------
        name
            What manifests call it; by default what it was loaded from.

        Raises
        ------
        UserError
            When it is no model of transformers, or is not in memory as a whole.
        """
        config, state = getattr(model, "config", None), getattr(model, "state_dict", None)
        if not hasattr(config, "to_dict") or state is None:
            raise UserError(f"a {type(model).__name__} is no model of transformers: give a PreTrainedModel")
        values = _untied(state(), set(getattr(model, "all_tied_weights_keys", None) or {}))
        if any(tensor.is_meta or hasattr(tensor, "full_tensor") for tensor in values.values()):
            raise UserError(f"the {type(model).__name__} is offloaded or sharded: load it whole on one device")
        place = str(getattr(model, "name_or_path", "") or "")
        tensors = {
            key: TensorEntry(Path(), value.dtype, tuple(value.shape), 0, value.nbytes) for key, value in values.items()
        }
        return cls(
            Path(place), name or place or f"{type(model).__name__} in memory", tensors,
            model=model, tokenizer=tokenizer, values=values,
        )  # fmt: skip

    @property
    def location(self) -> str:
        """Where the model was loaded from: a folder or a hub id; its name where that is not known."""
        return str(self.folder.resolve()) if self.folder.is_dir() else self.name

    @property
    def config(self) -> dict[str, Any]:
        """The model's config as plain values."""
        return self.model.config.to_dict()

    @property
    def _about(self) -> dict[str, Any]:
        return self.config

    def _stored(self, tensor: str, unit: Units, start: int, stop: int) -> torch.Tensor:
        return units_of(self.values[tensor].detach(), unit, start, stop)

    def _stored_rows(self, tensor: str, ids: npt.NDArray[np.int64]) -> torch.Tensor:
        value = self.values[tensor].detach()
        return value[torch.from_numpy(np.ascontiguousarray(ids)).to(value.device)].cpu()

    @property
    def fingerprint(self) -> str:
        """SHA-256 as of a checkpoint on disk; computed again when a tensor was written to since."""
        state = [(value.data_ptr(), 0 if value.is_inference() else value._version) for value in self.values.values()]  # noqa: SLF001
        if self._known.get("state") != state:
            content = [
                [name, str(value.dtype), list(value.shape), digest_values(value)]
                for name, value in sorted(self.values.items())
            ]
            self._known.update(state=state, fingerprint=digest_json(content))
        return self._known["fingerprint"]


def _untied(state: Mapping[str, torch.Tensor], targets: set[str]) -> dict[str, torch.Tensor]:
    """Return each tensor once, by the name that transformers saves it by: not by that of one that is tied to another."""
    names: dict[tuple[Any, ...], list[str]] = {}
    for name, value in state.items():
        key = (value.device, value.data_ptr(), value.shape, value.stride(), value.dtype) if value.numel() else (name,)
        names.setdefault(key, []).append(name)
    kept = {next((name for name in same if name not in targets), same[0]) for same in names.values()}
    return {name: value for name, value in state.items() if name in kept}
