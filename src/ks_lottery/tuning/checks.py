"""What is refused before a training: settings and tickets that do not fit, missing trackers, sharding in vain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ks_lottery.errors import UserError
from ks_lottery.tuning.processes import launched

if TYPE_CHECKING:
    from ks_lottery.config.settings import TrainConfig
    from ks_lottery.models.load import LoadedModel
    from ks_lottery.tuning.tune_spec import TuneSpec


def check_rows_given(spec: TuneSpec) -> None:
    """Refuse an empty set of tickets where a user trains them, or as many rows; a run without tickets is another matter."""
    if (
        spec.tickets is not None
        and not len(spec.tickets)
        and spec.size is None
        and spec.method not in {"embed", "frozen"}
    ):
        raise UserError(
            f"the tickets are an empty set, so that {spec.method} tuning has no row to train: select with a larger alpha, or "
            "a number of rows"
        )


def check_training(spec: TuneSpec, config: TrainConfig, *, validates: bool) -> None:
    """Refuse settings of the training that cannot be had together."""
    if spec.method == "prefix" and config.gradient_checkpointing:
        raise UserError(
            "prefix tuning puts keys and values into a cache, which gradient checkpointing switches off: leave it out"
        )
    if spec.patience and not validates:
        raise UserError("patience needs a validation text: give `validation`")
    if spec.patience and spec.folder is None:
        raise UserError("patience needs a folder for checkpoints, from which the best parameters are taken")


def check_reports(spec: TuneSpec) -> None:
    """Refuse trackers that are not installed."""
    if not spec.report_to:
        return
    from transformers.integrations.integration_utils import get_available_reporting_integrations

    available = get_available_reporting_integrations()
    for name in spec.report_to:
        if name not in available:
            raise UserError(
                f"tracker {name} is not known to transformers or not installed; here are {', '.join(available) or 'none'}"
            )


def check_sharding(spec: TuneSpec, loaded: LoadedModel) -> None:
    """Refuse sharding where the Trainer would quietly do something else."""
    if not spec.fsdp:
        return
    if next(loaded.lm.parameters()).device.type == "cpu":
        raise UserError("--fsdp needs GPUs: on a CPU the Trainer would turn it into DDP, so leave --fsdp out")
    if not launched():
        raise UserError("--fsdp shards over processes: start the command with torchrun or accelerate launch")
