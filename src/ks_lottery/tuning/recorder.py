"""Records while rows are trained what each of them contributed: loss-change allocation, gradient norms, occurrences."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import distributed
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from ks_lottery.checkpoint.attribution import Attribution

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt
    from torch import nn

    from ks_lottery.models.rows import RowEmbedding


class AttributionRecorder(TrainerCallback, ExportableState):
    """A callback of the transformers Trainer that sums over the steps, for each of the K rows of a row module, two scores.

    - ``lca``: minus g . (row after - row before), the first-order fall of the loss that is due to the row's move
      (Lan et al., NeurIPS 2019; they take the gradient of the whole training loss, integrated along the step, here it is
      that of the batch, at its start: with small batches the sum over rows exceeds the real fall by far);
    - ``gradient``: the Euclidean norm of g,

    with g the gradient of the step's loss with respect to the row, over all accumulated batches and averaged over processes,
    before clipping. The Trainer clips before any callback can look, by the factor min(1, max_grad_norm / (norm + 1e-6)), the
    same for all rows, and logs the norm before it; so a step is divided by that factor when its norm is logged. Sums are in
    float64. Under several processes the occurrences of all of them are added up.

    Parameters
    ----------
    rows
        The module whose rows are trained.
    model
        The model that the Trainer calls with keywords ``input_ids`` and ``attention_mask``; its batches are counted while it
        is in training mode.

    Notes
    -----
    A checkpoint of the Trainer carries the sums (in ``trainer_state.json``), and a training that resumes from it loads them.
    The Trainer must log each step (``logging_steps=1``).
    """

    def __init__(self, rows: RowEmbedding, model: nn.Module) -> None:
        device, K = rows.rows.device, len(rows.rows)
        # Apple's GPUs have no float64: there the sums are kept by the processor.
        self._home = torch.device("cpu") if device.type == "mps" else device
        self._wide = torch.float32 if device.type == "mps" else torch.float64
        self._rows = rows
        self._before: torch.Tensor | None = None
        self._step: torch.Tensor | None = None
        self._sums = torch.zeros((2, K), dtype=torch.float64, device=self._home)
        self._counts = torch.zeros(K, dtype=torch.int64, device=self._home)
        self._fresh = torch.zeros(K + 1, dtype=torch.int64, device=device)
        model.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, model: nn.Module, _: tuple[Any, ...], batch: dict[str, Any]) -> None:
        if model.training:
            slots = self._rows.slot[batch["input_ids"]].long()
            ours = torch.where(batch["attention_mask"].bool(), slots + 1, 0).flatten()  # place 0: all other tokens
            self._fresh.scatter_add_(0, ours, torch.ones_like(ours))

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Load the sums of the checkpoint that the training resumes from, if there is one."""
        saved = (state.stateful_callbacks or {}).get(type(self).__name__)
        if state.global_step and saved:
            self._load(saved["attributes"])

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Keep the rows as they are before the step."""
        if self._step is not None:
            raise RuntimeError("attribution needs the norm of each step's gradient: set logging_steps=1")
        self._before = self._rows.rows.detach().clone()

    @torch.no_grad()
    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Compare the rows after the step with those before, and add the counts of all processes."""
        grad = self._rows.rows.grad
        if self._before is None or grad is None:
            return
        norm = torch.linalg.vector_norm(grad, dim=1, dtype=self._wide)
        fall = self._before.sub_(self._rows.rows).mul_(grad).sum(dim=1, dtype=self._wide)
        self._before = None
        fall, norm = (x.full_tensor() if hasattr(x, "full_tensor") else x for x in (fall, norm))  # sharded rows
        self._step = torch.stack([fall, norm]).to(self._home, torch.float64)
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(self._fresh)
        self._counts += self._fresh[1:].to(self._home)
        self._fresh.zero_()
        if args.max_grad_norm <= 0:
            self._settle(1.0)

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Undo the clipping of the step whose norm is logged."""
        norm = (kwargs.get("logs") or {}).get("grad_norm")
        if self._step is not None and norm is not None:
            norm = torch.tensor(float(norm), dtype=torch.float32)
            self._settle(float((args.max_grad_norm / (norm + 1e-6)).clamp(max=1.0)))

    def _settle(self, factor: float) -> None:
        if self._step is not None:
            self._sums += self._step / factor
            self._step = None

    def state(self) -> dict[str, Any]:
        """Return the sums for the Trainer's checkpoint, bit for bit."""
        arrays = {"sums": self._sums.cpu().numpy(), "counts": self._counts.cpu().numpy()}
        return {"args": {}, "attributes": {k: base64.b64encode(v.tobytes()).decode() for k, v in arrays.items()}}

    def _load(self, saved: Mapping[str, str]) -> None:
        K = len(self._counts)
        sums = np.frombuffer(base64.b64decode(saved["sums"]), dtype=np.float64).reshape(2, K)
        counts = np.frombuffer(base64.b64decode(saved["counts"]), dtype=np.int64).reshape(K)
        self._sums.copy_(torch.from_numpy(sums.copy()))
        self._counts.copy_(torch.from_numpy(counts.copy()))

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
