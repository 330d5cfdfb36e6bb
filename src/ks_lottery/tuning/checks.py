"""What is refused before a training: settings and tickets that do not fit, missing trackers, sharding in vain."""

from __future__ import annotations

from importlib import util
from typing import TYPE_CHECKING

from ks_lottery.config.values import did_you_mean
from ks_lottery.errors import UserError
from ks_lottery.models.devices import choose_device
from ks_lottery.models.quantized import check_quantization
from ks_lottery.models.row_scale import rate_sentence
from ks_lottery.tuning.processes import launched

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ks_lottery.checkpoint.reader import Checkpoint
    from ks_lottery.config.settings import TrainConfig
    from ks_lottery.tuning.tune_spec import TuneSpec

TRACKERS = {
    "azure_ml": "mlflow azureml-mlflow", "clearml": "clearml", "codecarbon": "codecarbon", "comet_ml": "comet_ml",
    "dagshub": "dagshub mlflow", "dvclive": "dvclive", "flyte": "flytekit", "kubeflow": "kubeflow", "mlflow": "mlflow",
    "neptune": "neptune", "swanlab": "swanlab", "tensorboard": "tensorboard", "trackio": "trackio", "wandb": "wandb",
}  # fmt: skip
"""Trackers by transformers' names, and the packages that each needs."""


def check_rows_given(spec: TuneSpec, base: Checkpoint) -> None:
    """Refuse an empty set of tickets where a user trains them, or as many rows; a run without tickets is another matter.

    Parameters
    ----------
    base
        The base, whose rows say which learning rate would find tickets.
    """
    if spec.tickets is None or len(spec.tickets) or spec.method == "embed":
        return
    if spec.method == "frozen":
        raise UserError(
            "the tickets are an empty set, so that no row is frozen: give tickets, or tune by the method embed"
        )
    if spec.size is None:
        raise UserError(
            f"the tickets are an empty set, so that {spec.method} tuning has no row to train. {rate_sentence(base)}; or select "
            "with a larger alpha, or a number of rows"
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


def check_packages(quantization: str | None, report_to: Sequence[str]) -> None:
    """Refuse a body in 4 bits and trackers whose packages are not installed; no model is needed for that.

    Raises
    ------
    UserError
        When one is not known, or is not installed: the command that installs it is named.
    """
    if quantization is not None:
        check_quantization(quantization)
    if not report_to:
        return
    from transformers.integrations.integration_utils import get_available_reporting_integrations

    available = get_available_reporting_integrations()
    for name in report_to:
        if name in available:
            continue
        if name not in TRACKERS:
            raise UserError(
                f"tracker {name} is not known to transformers{did_you_mean(name, TRACKERS)}: use one of {', '.join(TRACKERS)}"
            )
        if all(map(util.find_spec, TRACKERS[name].split())):
            raise UserError(
                f"tracker {name} is installed, but transformers cannot use it: renew it (pip install -U {TRACKERS[name]}), and "
                "look at its environment variables"
            )
        raise UserError(f"tracker {name} is not installed: pip install {TRACKERS[name]}")


def check_sharding(spec: TuneSpec) -> None:
    """Refuse sharding where the Trainer would quietly do something else."""
    if not spec.fsdp:
        return
    if choose_device(spec.device) == "cpu":
        raise UserError("--fsdp needs GPUs: on a CPU the Trainer would turn it into DDP, so leave --fsdp out")
    if not launched():
        raise UserError("--fsdp shards over processes: start the command with torchrun or accelerate launch")
