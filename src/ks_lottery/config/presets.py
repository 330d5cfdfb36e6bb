"""The preset ``paper``: the training settings of the paper and of the scripts that its authors published."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ks_lottery.config.choices import METHODS, PRESETS
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

EXAMPLES_A_STEP = 128
"""Batch in all, over devices and accumulated batches; section 4 of the paper gives none, the authors' scripts do."""

DEVICE_BATCH = 8
"""Batch of one device, unless the user gives another; the scripts have 16, on GPUs of 80 GB."""

SEED, MAX_TOKENS = 42, 1024
"""As in the scripts; they cut an example at this length, here it is left out."""

_COMMON = {"warmup_ratio": 0.03, "max_grad_norm": 1.0, "weight_decay": 0.0}
"""As in the scripts; the clipping is the Trainer's default there. The schedule is a cosine always."""


def tune_preset(name: str, method: str, given: Mapping[str, Any], *, processes: int | None = None) -> dict[str, Any]:
    """Return ``seed``, ``max_tokens`` and ``settings`` (fields of `TrainConfig`) of a preset for one tuning method.

    Parameters
    ----------
    name, method
        One of `ks_lottery.config.choices.PRESETS`, and one of its `METHODS`.
    given
        Fields of `TrainConfig` that the user gave, which override the preset; None counts as not given.
    processes
        Processes that train together; None (the default) for those that this one was started with.

    Raises
    ------
    UserError
        When the preset is not known, or the batch size does not make a step of `EXAMPLES_A_STEP` examples.
    """
    _check(name)
    explicit = {key: value for key, value in given.items() if value is not None}
    rates = {"learning_rate": METHODS[method].learning_rate, "epochs": METHODS[method].epochs}
    settings: dict[str, Any] = {**_COMMON, **rates, "batch_size": DEVICE_BATCH, **explicit}
    if "gradient_accumulation" not in explicit:
        settings["gradient_accumulation"] = accumulation(settings["batch_size"], processes or process_count())
    return {"seed": SEED, "max_tokens": MAX_TOKENS, "settings": settings}


def run_preset(name: str, batch_size: int = DEVICE_BATCH) -> dict[str, Any]:
    """Return the fields of a run's config that a preset sets: embed tuning has its own learning rate and epochs.

    Raises
    ------
    UserError
        When the preset is not known, or the batch size does not make a step of `EXAMPLES_A_STEP` examples.
    """
    _check(name)
    partial, embed = METHODS["partial"], METHODS["embed"]
    return {
        "text": {"max_tokens": MAX_TOKENS},
        "train": {
            "learning_rate": partial.learning_rate,
            "epochs": float(partial.epochs),
            "embed_learning_rate": embed.learning_rate,
            "embed_epochs": float(embed.epochs),
            "batch_size": batch_size,
            "gradient_accumulation": accumulation(batch_size),
            **_COMMON,
        },
        "seed": SEED,
    }


def process_count() -> int:
    """Return the number of processes that train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def accumulation(batch_size: int, processes: int = 1) -> int:
    """Return how many batches make a step of `EXAMPLES_A_STEP` examples.

    Raises
    ------
    UserError
        When no whole number of them does.
    """
    if batch_size < 1 or EXAMPLES_A_STEP % (batch_size * processes):
        where = "" if processes == 1 else f" in each of {processes} processes"
        raise UserError(
            f"preset paper has {EXAMPLES_A_STEP} examples a step, which batches of {batch_size}{where} do not make: give a "
            "batch size that divides it, or the gradient accumulation as well"
        )
    return EXAMPLES_A_STEP // (batch_size * processes)


def _check(name: str) -> None:
    if name not in PRESETS:
        raise UserError(f"preset {name} is not known; there is {', '.join(PRESETS)}")
