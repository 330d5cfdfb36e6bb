"""What a training would cost: parameters, memory, steps and time, measured on real steps of the real model."""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from ks_lottery.corpus.batches import NO_LABEL, collate
from ks_lottery.models.quiet import quiet
from ks_lottery.models.rows import padding_row, reachable_rows
from ks_lottery.report.forms import duration, size
from ks_lottery.report.section import Section
from ks_lottery.tickets.tickets import Tickets
from ks_lottery.tuning.trainer import step_order

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ks_lottery.tuning.tuning import Tuning


@dataclass(frozen=True, kw_only=True)
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
        Time of all steps on this machine, one process; with that of a pass that chooses the rows, where there is one.
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

    def sections(self) -> list[Section]:
        """Return what a dry run prints."""
        share = 100 * self.trained / self.total
        return [
            Section(
                sentences=[
                    f"trained parameters: {self.trained:,} of {self.total:,} ({share:.3g}%)",
                    f"memory (an estimate): {size(self.memory_bytes)}, of which model {size(self.model_bytes)}, gradients "
                    f"and optimizer {size(self.state_bytes)}, longest batch {size(self.activation_bytes)}",
                    f"steps: {self.steps:,}, over {self.examples:,} examples of {self.tokens:,} tokens an epoch",
                    f"time (an estimate, from two measured steps): {duration(self.seconds)}",
                ]
            )
        ]


def steps_in_all(examples: int, batch: int, accumulation: int, epochs: float, processes: int = 1) -> int:
    """Return the number of steps, as the Trainer counts them.

    >>> steps_in_all(10, 4, 1, 3), steps_in_all(10, 4, 2, 0.5)
    (9, 1)
    """
    return math.ceil(math.ceil(examples / (batch * accumulation * processes)) * epochs)


def make_plan(tuning: Tuning, *, processes: int = 1) -> Plan:
    """Measure two batches of a tuning: the longest for memory, one of median length for time.

    Time is in proportion to tokens; the step of the optimizer counts, on parameters that it does not move.
    """
    config = tuning.config
    features = [e.features() for e in tuning.examples]
    lengths = [len(feature["input_ids"]) for feature in features]
    batch = config.batch_size
    order = step_order(lengths, batch * config.gradient_accumulation * processes, seed=tuning.spec.seed, epoch=0)
    batches = [order[start : start + batch] for start in range(0, len(order), batch)]
    widths = [max(lengths[i] for i in indices) * len(indices) for indices in batches]
    longest, middle = widths.index(max(widths)), widths.index(statistics.median_low(widths))
    rows, chooses = tuning.rows, tuning.spec.measures
    if chooses and rows is None:  # any rows that the text reaches cost as much
        reached = reachable_rows([e.sequence for e in tuning.examples], padding_row(tuning.loaded.lm))
        rows = Tickets(rows=reached[: tuning.spec.size], rule={})
    with replace(tuning, rows=rows).trainable() as trainable, quiet():
        model, autocast = trainable.model, trainable.autocast
        parameters = list(model.parameters())
        trained = [p for p in parameters if p.requires_grad]
        model_bytes = sum(p.numel() * p.element_size() for p in parameters)
        activation_bytes = _step(model, [features[i] for i in batches[longest]], None, autocast=autocast)
        optimizer = torch.optim.AdamW(trained, lr=0.0, weight_decay=0.0) if trained else None
        _step(model, [features[i] for i in batches[middle]], optimizer, autocast=autocast)
        start = time.perf_counter()
        _step(model, [features[i] for i in batches[middle]], optimizer, autocast=autocast)
        seconds = time.perf_counter() - start
        model.lm.eval()
    steps = steps_in_all(len(features), batch, config.gradient_accumulation, config.epochs, processes)
    rounds = steps * config.gradient_accumulation + (len(batches) if chooses else 0)
    return Plan(
        trained=sum(p.numel() for p in trained),
        total=sum(p.numel() for p in parameters),
        model_bytes=model_bytes,
        state_bytes=sum(3 * p.numel() * p.element_size() for p in trained),
        activation_bytes=activation_bytes,
        steps=steps,
        examples=len(features),
        tokens=sum(lengths),
        seconds=rounds * seconds * statistics.fmean(widths) / widths[middle],
    )


def _step(
    model: Any, features: Sequence[dict[str, list[int]]], optimizer: torch.optim.Optimizer | None, *, autocast: bool
) -> int:
    """Do one step and return the bytes that the forward pass kept for the backward pass."""
    device = next(model.parameters()).device
    batch = {name: tensor.to(device) for name, tensor in collate(features).items()}
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    saved: dict[int, int] = {}

    def count(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    model.train()
    with (
        torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor),
        torch.autocast(device.type, torch.bfloat16, enabled=autocast),
    ):
        loss = model(**batch, num_items_in_batch=int((batch["labels"] != NO_LABEL).sum()))["loss"]
    loss.backward()
    if optimizer is not None:
        optimizer.step()
    model.zero_grad(set_to_none=True)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return sum(saved.values())
