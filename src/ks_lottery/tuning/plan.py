"""What a training would cost: parameters, memory, steps and time, measured on real steps of the real model.

Must never change the model, nor be taken for more than an estimate.
"""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ks_lottery.corpus.batches import NO_LABEL, collate
from ks_lottery.models.quiet import quiet
from ks_lottery.tuning.row_training import method_settings
from ks_lottery.tuning.trainer import step_order

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ks_lottery.tuning.task import Task


@dataclass(frozen=True)
class Plan:
    """What a training would cost.

    Parameters
    ----------
    trained, total
        Parameters that are trained, and all of the model's.
    model_bytes
        The model with what is trained.
    state_bytes
        Gradients and Adam's two moments of what is trained.
    activation_bytes
        What the longest batch keeps for the backward pass.
    steps, examples, tokens
        Steps in all; examples and input tokens of one epoch.
    seconds
        Time of all steps on this machine, one process.
    """

    trained: int
    total: int
    model_bytes: int
    state_bytes: int
    activation_bytes: int
    steps: int
    examples: int
    tokens: int
    seconds: float

    @property
    def memory_bytes(self) -> int:
        """Memory in all."""
        return self.model_bytes + self.state_bytes + self.activation_bytes


def steps_in_all(examples: int, batch: int, accumulation: int, epochs: float, processes: int = 1) -> int:
    """Return the number of steps, as the Trainer counts them.

    >>> steps_in_all(10, 4, 1, 3), steps_in_all(10, 4, 2, 0.5)
    (9, 1)
    """
    return math.ceil(math.ceil(examples / (batch * accumulation * processes)) * epochs)


def make_plan(task: Task, *, processes: int = 1) -> Plan:
    """Measure two batches of a task: the longest for memory, one of median length for time.

    Time is in proportion to tokens; the step of the optimizer counts, on parameters that it does not move.
    """
    config, settings = task.config, method_settings(task.config, task.request.method)
    features = [e.features() for e in task.examples]
    lengths = [len(one["input_ids"]) for one in features]
    size = config.batch_size
    order = step_order(lengths, size * config.gradient_accumulation * processes, seed=task.request.seed, epoch=0)
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    widths = [max(lengths[i] for i in batch) * len(batch) for batch in batches]
    longest, middle = widths.index(max(widths)), widths.index(statistics.median_low(widths))
    with task.built() as built, quiet():
        model = built.model
        trained = [p for p in model.parameters() if p.requires_grad]
        model_bytes = sum(p.numel() * p.element_size() for p in model.parameters())
        kept = _step(model, [features[i] for i in batches[longest]], None, autocast=built.autocast)
        optimizer = torch.optim.AdamW(trained, lr=0.0, weight_decay=0.0) if trained else None
        _step(model, [features[i] for i in batches[middle]], optimizer, autocast=built.autocast)
        start = time.perf_counter()
        _step(model, [features[i] for i in batches[middle]], optimizer, autocast=built.autocast)
        seconds = time.perf_counter() - start
        model.lm.eval()
        count = sum(p.numel() for p in trained)
        total = sum(p.numel() for p in model.parameters())
        state = sum(3 * p.numel() * p.element_size() for p in trained)
    steps = steps_in_all(len(features), size, config.gradient_accumulation, settings["epochs"], processes)
    rounds = steps * config.gradient_accumulation
    return Plan(
        count, total, model_bytes, state, kept, steps, len(features), sum(lengths),
        rounds * seconds * statistics.fmean(widths) / widths[middle],
    )  # fmt: skip


def _step(
    model: Any, features: Sequence[dict[str, list[int]]], optimizer: torch.optim.Optimizer | None, *, autocast: bool
) -> int:
    """Do one step and return the bytes that the forward pass kept for the backward pass."""
    device = next(model.parameters()).device
    batch = {name: tensor.to(device) for name, tensor in collate(features).items()}
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    model.train()
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast(device.type, torch.bfloat16, enabled=autocast),
    ):
        loss = model(**batch, num_items_in_batch=int((batch["labels"] != NO_LABEL).sum()))["loss"]
    loss.backward()
    if optimizer is not None:
        optimizer.step()
    model.zero_grad(set_to_none=True)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return sum(kept.values())
