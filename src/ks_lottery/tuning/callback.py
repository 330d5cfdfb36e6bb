"""Watches the tickets while a transformers Trainer trains: counts them, logs them, and stops when they have settled."""

from __future__ import annotations

import math
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from transformers import TrainerCallback

from ks_lottery.errors import UserError
from ks_lottery.stats.ks import ks_counts
from ks_lottery.stats.null import critical_count
from ks_lottery.tickets.tickets import Tickets
from ks_lottery.tuning.trained_rows import TrainedRows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt
    import torch
    from transformers import Trainer

    from ks_lottery.checkpoint.tensors import Source


@dataclass(frozen=True, kw_only=True, eq=False)
class TicketCheck:
    """The tickets at one check.

    Parameters
    ----------
    step
        Steps of the optimizer that were done.
    rows
        The tickets, ascending.
    largest
        The largest D of a row, in [0, 1].
    jaccard
        Shared rows over all rows of this set and the one before, in [0, 1]; 1 for two empty sets, None at the first check.
    """

    step: int
    rows: npt.NDArray[np.int64]
    largest: float
    jaccard: float | None


def jaccard(rows: npt.NDArray[np.int64], others: npt.NDArray[np.int64]) -> float:
    """Return the shared rows of two sets over all their rows; 1 for two empty sets."""
    union = len(np.union1d(rows, others))
    return len(np.intersect1d(rows, others)) / union if union else 1.0


def settled_at(
    checks: Sequence[TicketCheck], *, patience: int = 2, threshold: float = 0.9, min_tickets: int = 1
) -> int | None:
    """Return the step at which the tickets had settled, or None.

    That is the first check that ends a run of `patience` checks of which each has ``jaccard >= threshold`` with the one before
    it and holds at least `min_tickets` tickets. So two empty sets, which are equal, settle nothing.
    """
    calm = 0
    for check in checks:
        same = check.jaccard is not None and check.jaccard >= threshold
        calm = calm + 1 if same and len(check.rows) >= min_tickets else 0
        if calm >= patience:
            return check.step
    return None


class KSCallback(TrainerCallback):
    """Tests the rows of the input embedding against their values before training, now and then, while any Trainer trains.

    `attach` adds it to a Trainer. For any causal language model whose input embedding is trained: densely, in full tuning, or
    through `RowEmbedding`, of which the K trained rows alone are compared, since no other can change. Each check goes to the
    Trainer's trackers and its ``state.log_history`` as an entry of its own: ``ks/tickets`` (rows with p < alpha),
    ``ks/largest_D``, and from the second check on ``ks/jaccard`` (overlap with the previous check). With `stop`, the training
    ends when the set has settled (`settled_at`): the schedule of the learning rate is that of the whole training, cut short.

    Parameters
    ----------
    every
        Steps between two checks; below 1, a share of all steps, rounded up, as with the Trainer's ``logging_steps``. The last
        step is checked too. What `threshold` means hangs on it: sets that are close in time are alike.
    alpha
        A row with p < alpha is a ticket, 0 < alpha < 1. A threshold on a distance, no error rate.
    stop
        End the training when the tickets have settled.
    patience, threshold, min_tickets
        What settled means; see `settled_at`.
    base
        The model before training, when that is not what the training starts from: a folder, file or hub id, as
        `ks_lottery.scan` takes it, or an opened checkpoint. Needed where a training is resumed.

    Attributes
    ----------
    checks
        The checks of the latest training, a list of `TicketCheck`.
    ids, counts
        Rows that are compared, ascending, and their integer KS counts at the latest check, both shape (K,).

    Raises
    ------
    UserError
        For a setting out of range. When training begins: when the callback is not attached to the Trainer; for an embedding
        that is frozen, sharded in another way than as a DTensor, or of a kind that keeps its rows elsewhere (an adapter's);
        when a training is resumed without `base`, or `base` has another shape. At a check: for rows that hold NaN.

    Notes
    -----
    Memory: the rows before training, K x d in the type of the parameter, on the CPU of the main process (dense LLaMA-7B in
    bfloat16: 262 MB; the demo of this project: 5 MB). Beside it a check needs some MB, or the whole matrix where it is a
    DTensor, which all processes gather. Time: that of `ks_counts`, O(K d).

    Values are compared in the parameter's own type: what a 16-bit parameter rounds away has not changed. The main process
    counts and logs; all processes stop at the same step. After resuming, the first check has no previous one, and patience
    starts anew.

    Examples
    --------
    >>> from ks_lottery import KSCallback
    >>> watcher = KSCallback(every=50, stop=True, threshold=0.9)
    >>> # trainer = Trainer(model, args, train_dataset=data); watcher.attach(trainer); trainer.train(); watcher.tickets
    """

    def __init__(
        self,
        *,
        every: float = 0.05,
        alpha: float = 0.05,
        stop: bool = False,
        patience: int = 2,
        threshold: float = 0.9,
        min_tickets: int = 1,
        base: str | Path | Source | None = None,
    ) -> None:
        if every <= 0 or (every > 1 and every != int(every)):
            raise UserError(f"every is {every}, but must be a number of steps, or a share of them above 0 and below 1")
        if not 0 < alpha < 1:
            raise UserError(f"alpha is {alpha}, but must be above 0 and below 1")
        if not 0 < threshold <= 1:
            raise UserError(f"threshold is {threshold}, but must be above 0 and at most 1")
        if patience < 1 or min_tickets < 1:
            raise UserError(f"patience is {patience} and min_tickets {min_tickets}, but both must be at least 1")
        self.every, self.alpha, self.stop = every, alpha, stop
        self.patience, self.threshold, self.min_tickets = patience, threshold, min_tickets
        self.base = base
        self.checks: list[TicketCheck] = []
        self.ids: npt.NDArray[np.int64] = np.empty(0, np.int64)
        self.counts: npt.NDArray[np.int64] = np.empty(0, np.int64)
        self._order: npt.NDArray[np.int64] = np.empty(0, np.int64)
        self._width = 1
        self._gap = 1
        self._before: torch.Tensor | None = None
        self._trainer: weakref.ref[Trainer] | None = None

    def attach(self, trainer: Trainer) -> KSCallback:
        """Add this callback to a Trainer, `trainer`, and log its checks through it; returns the callback.

        A callback is told everything but its Trainer, and the trackers can be reached through nothing else. The Trainer is
        referenced weakly: a callback that is kept for its tickets keeps no model. `ks_lottery.tune` attaches what it is given.
        """
        if self not in trainer.callback_handler.callbacks:
            trainer.add_callback(self)
        self._trainer = weakref.ref(trainer)
        return self

    def _attached(self, state: Any) -> Trainer:
        """Return the Trainer that is training, which must be the one of `attach`."""
        trainer = None if self._trainer is None else self._trainer()
        if trainer is None or trainer.state is not state:
            where = "a Trainer" if self._trainer is None else "the Trainer that is training"
            raise UserError(
                f"KSCallback: it is not attached to {where}, through which it logs. Call KSCallback(...).attach(trainer) "
                "before trainer.train()."
            )
        return trainer

    @property
    def settled(self) -> int | None:
        """Step at which the tickets had settled, or None."""
        return settled_at(self.checks, patience=self.patience, threshold=self.threshold, min_tickets=self.min_tickets)

    @property
    def tickets(self) -> Tickets:
        """The tickets of the latest check, by descending count; ties by descending distance moved, then by ascending row.

        Raises
        ------
        UserError
            When there was no check yet, as always in all but the main process.
        """
        if not self.checks:
            raise UserError("no check was made yet, so there are no tickets: train first, in the main process")
        order = self._order
        scores = [{"count": int(k), "statistic": int(k) / self._width} for k in self.counts[order]]
        rule = {"selector": "ks", "alpha": self.alpha, "step": self.checks[-1].step}
        return Tickets(rows=self.ids[order], rule=rule, scores=scores)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Keep the rows as they are before training."""
        self._attached(state)
        self._gap = math.ceil(state.max_steps * self.every) if self.every < 1 else int(self.every)
        self.checks = []
        rows = TrainedRows.of(kwargs["model"])
        if state.global_step > 0 and self.base is None:
            raise UserError(
                f"the training goes on from step {state.global_step}, so the rows before training are not known here: "
                "give KSCallback(base=...) the model that it was started from"
            )
        # All processes gather what is sharded, the main process alone keeps it.
        before = rows.values() if self.base is None else rows.values_in(self.base)
        if state.is_world_process_zero:
            self.ids, self._width = rows.ids, int(before.shape[1])
            self.counts = np.zeros(len(rows.ids), dtype=np.int64)
            self._before = before.to("cpu", copy=self.base is None)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:  # noqa: ARG002
        """Check when it is time, log what was found, and stop when that is wanted and the tickets have settled."""
        from accelerate.utils import broadcast_object_list

        if state.global_step % self._gap and state.global_step < state.max_steps:
            return control
        now = TrainedRows.of(kwargs["model"]).values()
        verdict = [False, False]
        if state.is_world_process_zero:
            try:
                self._check(now, state.global_step)
                verdict = [self.stop and self.settled is not None, False]
            except ValueError:  # said by all processes, or the others would wait for ever
                verdict = [False, True]
        stop, diverged = broadcast_object_list(verdict)
        if diverged:
            raise UserError(
                f"the embedding holds NaN at step {state.global_step}: the training diverged; give a lower learning rate"
            )
        if state.is_world_process_zero:
            self._log(state, control)
        control.should_training_stop = control.should_training_stop or stop
        return control

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Let go of the rows before training."""
        self._before = None

    def _check(self, now: torch.Tensor, step: int) -> None:
        self.counts = ks_counts(self._before, now)
        passing = np.flatnonzero(self.counts >= critical_count(self._width, self.alpha))
        before, after = (values[passing].cpu().double() for values in (cast("torch.Tensor", self._before), now))
        moved = (after - before).norm(dim=1).numpy()
        self._order = passing[np.lexsort((passing, -moved, -self.counts[passing]))]
        rows = self.ids[passing]
        overlap = jaccard(self.checks[-1].rows, rows) if self.checks else None
        largest = int(self.counts.max(initial=0)) / self._width
        self.checks.append(TicketCheck(step=step, rows=rows, largest=largest, jaccard=overlap))

    def _log(self, state: Any, control: Any) -> None:
        check = self.checks[-1]
        values: dict[str, float] = {"ks/tickets": len(check.rows), "ks/largest_D": check.largest}
        if check.jaccard is not None:
            values["ks/jaccard"] = check.jaccard
        # The trackers are called before this callback, so what it added to `logs` in on_log would never reach them. And
        # logging takes back the wish to log, by which the Trainer would lose its own entry of this step.
        wish = control.should_log
        self._attached(state).log(values)
        control.should_log = wish
