"""Records while rows are trained what each of them contributed: loss-change allocation, gradient norms, occurrences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import distributed
from transformers import TrainerCallback

from ks_lottery.checkpoint.attribution import Attribution
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt
    from torch import nn

    from ks_lottery.models.rows import RowEmbedding

RECORD_FILE = "attribution.safetensors"
"""The record so far, in the folder of a Trainer's checkpoint."""


class AttributionRecorder(TrainerCallback):
    """A callback of `TuneTrainer` that sums over the steps, for each of the K rows of a row module, two scores.

    - ``lca``: minus g' . (row after - row before), the first-order fall of the loss that is due to the row's move
      (Lan et al., NeurIPS 2019), where g' is the gradient of the NEXT step's loss, taken at the rows after the move;
    - ``gradient``: the Euclidean norm of g, the gradient of the step's own loss.

    The gradient of the step's own batch would not do for ``lca``: an optimizer moves along it, so that the product is positive
    whatever the data say. The next step computes g' anyway; after the last step one more gradient is taken (`finish`).

    Gradients are those of all accumulated batches, averaged over processes, before clipping. The Trainer clips before any
    callback can look, by the factor min(1, max_grad_norm / (norm + 1e-6)), the same for all rows, and logs the norm before it;
    so what a step contributes is divided by that factor when its norm is logged. Sums are in float64. Under several processes
    the occurrences of all of them are added up.

    Parameters
    ----------
    rows
        The module whose rows are trained.
    model
        The model that the Trainer calls with keywords ``input_ids`` and ``attention_mask``; its batches are counted while it
        is in training mode.

    Notes
    -----
    `TuneTrainer` saves the sums and the last move, K x d numbers, into each checkpoint, loads them where a training resumes,
    and calls `finish`. The Trainer must log each step (``logging_steps=1``).
    """

    def __init__(self, rows: RowEmbedding, model: nn.Module) -> None:
        device, K = rows.rows.device, len(rows.rows)
        # Apple's GPUs have no float64: there the sums are kept by the processor.
        self._home = torch.device("cpu") if device.type == "mps" else device
        self._wide = torch.float32 if device.type == "mps" else torch.float64
        self._rows = rows
        self._move: torch.Tensor | None = None
        self._step: torch.Tensor | None = None
        self._sums = torch.zeros((2, K), dtype=torch.float64, device=self._home)
        self._counts = torch.zeros(K, dtype=torch.int64, device=self._home)
        self._fresh = torch.zeros(K + 1, dtype=torch.int64, device=device)
        model.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, model: nn.Module, _: tuple[Any, ...], batch: dict[str, Any]) -> None:
        if model.training:
            slots = self._rows.slot[batch["input_ids"]].long()
            ours = torch.where(batch["attention_mask"].bool(), slots + 1, 0).flatten()  # place 0: all other tokens
            self._fresh = self._fresh.to(ours.device)  # a sharded model has moved to its GPU since
            self._fresh.scatter_add_(0, ours, torch.ones_like(ours))

    @torch.no_grad()
    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Compare the gradient with the move before it, and keep the rows as they are before the step."""
        if self._step is not None:
            raise RuntimeError("attribution needs the norm of each step's gradient: set logging_steps=1")
        rows, grad = self._rows.rows.detach(), self._rows.rows.grad
        if grad is not None:
            norm = torch.linalg.vector_norm(grad, dim=1, dtype=self._wide)
            self._step = torch.stack([self._fall(grad), self._gathered(norm)])
        if self._move is None:
            self._move = rows.clone()
        else:
            self._move.copy_(rows)
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(self._fresh)
        self._counts += self._fresh[1:].to(self._home)
        self._fresh.zero_()

    @torch.no_grad()
    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Turn the rows before the step into their move."""
        if self._move is not None:
            self._move.neg_().add_(self._rows.rows.detach())
        if args.max_grad_norm <= 0:
            self._settle(1.0)

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Undo the clipping of the step whose norm is logged."""
        norm = (kwargs.get("logs") or {}).get("grad_norm")
        if self._step is not None and norm is not None:
            norm = torch.tensor(float(norm), dtype=self._rows.rows.dtype)
            self._settle(float((args.max_grad_norm / (norm + 1e-6)).clamp(max=1.0)))

    @torch.no_grad()
    def finish(self, gradient: Callable[[torch.nn.Parameter], torch.Tensor]) -> None:
        """Take the gradient after the last step; a second call does nothing.

        Parameters
        ----------
        gradient
            Returns the gradient of the next step's loss with respect to the rows, shape (K, d), averaged over processes; every
            process calls it.
        """
        if self._move is None:
            return
        with torch.enable_grad():
            grad = gradient(self._rows.rows)
        self._sums[0] += self._fall(grad)
        self._move = None
        self._fresh.zero_()

    def _fall(self, grad: torch.Tensor) -> torch.Tensor:
        """Return minus gradient dot move of each row, shape (K,); 0 where there was no move yet."""
        if self._move is None:
            return torch.zeros_like(self._sums[0])
        if hasattr(grad, "device_mesh") and not hasattr(self._move, "device_mesh"):  # sharded rows, after resuming
            from torch.distributed.tensor import distribute_tensor

            sharded: Any = grad
            self._move = distribute_tensor(self._move, sharded.device_mesh, sharded.placements)
        return -self._gathered((self._move * grad).sum(dim=1, dtype=self._wide))

    def _gathered(self, values: torch.Tensor) -> torch.Tensor:
        whole: Any = values
        whole = whole.full_tensor() if hasattr(whole, "full_tensor") else whole
        return whole.to(self._home, torch.float64)

    def _settle(self, factor: float) -> None:
        if self._step is not None:
            self._sums += self._step / factor
            self._step = None

    def save(self, folder: Path, *, writes: bool = True) -> None:
        """Write the sums and the last move into the `folder` of a checkpoint; every process calls it, and one writes."""
        move: Any = self._rows.rows.detach()[:0] if self._move is None else self._move
        move = move.full_tensor() if hasattr(move, "full_tensor") else move
        if writes:
            tensors = {"sums": self._sums, "counts": self._counts, "move": move}
            save_file({name: value.cpu().contiguous() for name, value in tensors.items()}, folder / RECORD_FILE)

    def load(self, folder: Path) -> None:
        """Read what `save` wrote.

        Raises
        ------
        UserError
            When the checkpoint has no record.
        """
        if not (folder / RECORD_FILE).is_file():
            raise UserError(
                f"{folder}: the checkpoint has no {RECORD_FILE}, so that what each row contributed is not known. Remove the "
                "folder and tune again."
            )
        saved = load_file(folder / RECORD_FILE)
        self._sums.copy_(saved["sums"])
        self._counts.copy_(saved["counts"])
        rows = self._rows.rows
        self._move = saved["move"].to(rows.device, rows.dtype) if len(saved["move"]) else None

    def attribution(
        self, ids: npt.NDArray[np.int64], *, made_from: Mapping[str, Any], settings: Mapping[str, Any]
    ) -> Attribution:
        """Return what was recorded.

        Parameters
        ----------
        ids
            The rows of the module, shape (K,), ascending.
        """
        lca, gradient = self._sums.cpu().numpy()
        scores = {"lca": lca.copy(), "gradient": gradient.copy()}
        return Attribution(ids, scores, self._counts.cpu().numpy().copy(), made_from, settings)
