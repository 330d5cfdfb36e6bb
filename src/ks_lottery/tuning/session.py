"""What surrounds a training: where its checkpoints go, what it is validated on, who watches.

Must never change what a training computes, early stopping apart.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from ks_lottery.corpus.batches import Example


@dataclass(frozen=True)
class Progress:
    """How far a training is: steps done, steps in all, input tokens seen (padding apart), and the last loss."""

    step: int
    steps: int
    tokens: int
    loss: float | None


@dataclass(frozen=True)
class Session:
    """What surrounds a training.

    Parameters
    ----------
    folder
        Where checkpoints go, and where an earlier, broken training left some; None keeps none.
    save_every
        Steps between checkpoints.
    validation
        Examples that the loss is measured on; with none, there is no early stopping.
    evaluate_every
        Steps between measurements, 0 for once an epoch.
    patience
        Measurements without a better one after which the training stops; the best parameters are kept. 0 never stops.
    report_to
        Trackers, by transformers' names for them.
    logs
        Where TensorBoard's files go.
    fsdp
        Shard the model over the processes (FSDP2, GPUs only).
    fsdp_config
        The Trainer's own settings of it.
    watch
        Called after each step.
    """

    folder: Path | None = None
    save_every: int = 100
    validation: Sequence[Example] = ()
    evaluate_every: int = 0
    patience: int = 0
    report_to: Sequence[str] = ()
    logs: Path | None = None
    fsdp: bool = False
    fsdp_config: Mapping[str, Any] = field(default_factory=dict)
    watch: Callable[[Progress], None] | None = None

    def __post_init__(self) -> None:
        """Check ranges."""
        for name, least in (("save_every", 1), ("evaluate_every", 0), ("patience", 0)):
            if getattr(self, name) < least:
                raise UserError(f"{name} is {getattr(self, name)}, but must be {least} or more")

    def check(self) -> None:
        """Refuse early stopping without what it needs, and trackers that are not here.

        Raises
        ------
        UserError
            When there is no validation text or no folder, or a tracker is not known or not installed.
        """
        if self.report_to:
            from transformers.integrations.integration_utils import get_available_reporting_integrations

            here = get_available_reporting_integrations()
            for name in self.report_to:
                if name not in here:
                    raise UserError(
                        f"tracker {name} is not known to transformers or not installed; here are {', '.join(here) or 'none'}"
                    )
        if self.patience and not self.validation:
            raise UserError("patience needs a validation text: give --validation or --validation-share")
        if self.patience and self.folder is None:
            raise UserError("patience needs a folder for checkpoints, from which the best parameters are taken")
