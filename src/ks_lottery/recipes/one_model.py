"""What loads the models of a recipe, one at a time, and under which conditions they compute."""

from __future__ import annotations

import gc
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from ks_lottery.errors import UserError
from ks_lottery.models.devices import choose_device, choose_dtype
from ks_lottery.models.dispatch import gpu_memory
from ks_lottery.models.load import load_model
from ks_lottery.store.manifest import versions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ks_lottery.checkpoint.reader import Checkpoint
    from ks_lottery.config.recipe_commands import ReproduceOptions
    from ks_lottery.models.load import LoadedModel


@dataclass(kw_only=True)
class OneModel:
    """Loads models, and keeps the last one alone in memory.

    Parameters
    ----------
    dtype, device, trust_remote_code
        As `load_model` takes them; type and device are resolved, never ``auto``.
    processes
        Processes that train together; on GPUs the model is sharded over them, and spread over these GPUs to be measured.
    """

    dtype: str
    device: str
    trust_remote_code: bool = False
    processes: int = 1
    current: LoadedModel | None = field(default=None, init=False, repr=False)

    @classmethod
    def of(cls, options: ReproduceOptions) -> OneModel:
        """Resolve ``auto`` for this machine.

        Raises
        ------
        UserError
            When it has too few GPUs for the processes.
        """
        device = choose_device(options.device)
        if device == "cuda" and options.processes > torch.cuda.device_count():
            raise UserError(
                f"`processes` is {options.processes}, but there are {torch.cuda.device_count()} GPUs here: give as many at most"
            )
        dtype = str(choose_dtype(options.dtype, device)).removeprefix("torch.")
        return cls(dtype=dtype, device=device, trust_remote_code=options.trust_remote_code, processes=options.processes)

    @classmethod
    def under(cls, conditions: Mapping[str, Any], options: ReproduceOptions) -> OneModel:
        """Return what loads models under conditions of another machine, which `conditions` stated there."""
        device = str(conditions["device"]).split(maxsplit=1)[0]
        return cls(
            dtype=conditions["dtype"], device=device, trust_remote_code=options.trust_remote_code,
            processes=options.processes,
        )  # fmt: skip

    def __getstate__(self) -> dict[str, Any]:
        """Return everything but the model that is kept: processes that train load their own."""
        return {**vars(self), "current": None}

    @property
    def shards(self) -> bool:
        """Whether a model is shared out over GPUs."""
        return self.processes > 1 and self.device == "cuda"

    def load(self, checkpoint: Checkpoint) -> LoadedModel:
        """Return the model of a checkpoint."""
        if self.current is None or self.current.checkpoint is not checkpoint:
            self.current = None
            self.current = load_model(
                checkpoint, dtype=self.dtype, device=self.device, trust_remote_code=self.trust_remote_code,
                max_memory=gpu_memory(self.processes) if self.shards else None,
            )  # fmt: skip
        return self.current

    def release(self) -> None:
        """Forget the model that is kept, so that its memory is free."""
        self.current = None
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()

    def conditions(self) -> dict[str, Any]:
        """Return what decides numbers on this machine beside inputs and settings."""
        if self.device == "cuda":
            device = f"cuda {torch.cuda.get_device_name()}"
        else:
            device = f"cpu {torch.backends.cpu.get_cpu_capability()}" if self.device == "cpu" else self.device
        packages = {name: version for name, version in versions().items() if name != "ks-lottery"}
        several = {"processes": self.processes} if self.processes > 1 else {}
        return {
            "threads": torch.get_num_threads(),
            "dtype": self.dtype,
            "device": device,
            "versions": packages,
            **several,
        }
