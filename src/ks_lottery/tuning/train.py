"""Trains rows of the embedding through the transformers Trainer.

Must never touch a row outside its set, nor keep a training loop of its own.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ks_lottery.checkpoint.patch import RowPatch
from ks_lottery.corpus.batches import collate
from ks_lottery.errors import UserError
from ks_lottery.models.language_model import LabelledLanguageModel
from ks_lottery.models.quiet import quiet
from ks_lottery.models.sides import installed_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    import numpy.typing as npt
    from transformers import TrainerCallback

    from ks_lottery.config import TrainConfig
    from ks_lottery.corpus.batches import Example
    from ks_lottery.models.load import LoadedModel


@dataclass(frozen=True)
class Trained:
    """What a training left: the patch, and the mean loss at some of its steps (nats a token)."""

    patch: RowPatch
    losses: tuple[tuple[int, float], ...]


def train_rows(
    loaded: LoadedModel,
    examples: Sequence[Example],
    ids: npt.NDArray[np.int64],
    *,
    config: TrainConfig,
    seed: int,
    method: str,
    tick: Callable[[int, int], None] | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> Trained:
    """Train the rows `ids` of the original model's input embedding and leave the model as it was.

    Adam (0.9, 0.999) without weight decay, which would move rows that no token touches; learning rate along a cosine
    after a warm-up; gradients clipped. The trained rows are float32 whatever the precision of the frozen body.

    Parameters
    ----------
    ids
        Rows, shape (K,), ascending. With none, nothing is trained and the patch is empty.
    method
        Name of the method, for the manifest and for embed tuning's own settings.
    tick
        Called with steps done and steps in all.
    callbacks
        More callbacks of the Trainer, such as `KSCallback`.

    Raises
    ------
    UserError
        When the training diverges.
    """
    import torch
    from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

    from ks_lottery.tuning.attribution import AttributionRecorder

    settings = method_settings(config, method)
    described = {"method": method, "rows": len(ids), "seed": seed, "dtype": str(loaded.lm.dtype), **settings}
    values = loaded.checkpoint.rows(ids)
    base = loaded.checkpoint.describe()
    if len(ids) == 0:
        return Trained(RowPatch(ids, values, base, described), ())

    class Tick(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
            if tick:
                tick(state.global_step, state.max_steps)

    model = LabelledLanguageModel(loaded.lm, share_prefix=config.share_prefix)
    device = str(next(loaded.lm.parameters()).device.type)
    with tempfile.TemporaryDirectory() as scratch, installed_rows(loaded.lm, ids, values) as rows, quiet():
        arguments = TrainingArguments(
            output_dir=scratch,
            per_device_train_batch_size=config.batch_size,
            gradient_accumulation_steps=config.gradient_accumulation,
            num_train_epochs=settings["epochs"],
            learning_rate=settings["learning_rate"],
            lr_scheduler_type="cosine",
            warmup_steps=config.warmup_ratio,
            weight_decay=0.0,
            max_grad_norm=config.max_grad_norm,
            optim="adamw_torch",
            train_sampling_strategy="group_by_length",
            seed=seed,
            report_to=[],
            save_strategy="no",
            logging_strategy="steps",
            logging_steps=1,
            logging_nan_inf_filter=False,
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_pin_memory=device == "cuda",
            use_cpu=device == "cpu",
        )
        recorder = AttributionRecorder(rows.embedding, model) if method == "embed" and rows.embedding else None
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=[e.features() for e in examples],  # pyright: ignore[reportArgumentType]  (any sequence will do)
            data_collator=collate,
            callbacks=[Tick(), *([recorder] if recorder else []), *callbacks],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        history = trainer.state.log_history
        trained = rows.rows.detach().cpu().clone()
    loaded.lm.eval()
    losses = tuple((int(entry["step"]), float(entry["loss"])) for entry in history if "loss" in entry)
    if not (bool(torch.isfinite(trained).all()) and all(math.isfinite(loss) for _, loss in losses)):
        raise UserError(
            f"{method} tuning diverged: its loss or rows are no longer finite; give a learning rate below "
            f"{settings['learning_rate']:g}"
        )
    patch = RowPatch(ids, trained, base, described)
    if recorder:
        made_from = {"base": base, "patch": patch.content}
        patch = replace(patch, attribution=recorder.attribution(ids, made_from=made_from, settings=described))
    return Trained(patch, losses)


def method_settings(config: TrainConfig, method: str) -> dict[str, Any]:
    """Return the settings that `method` is trained with; embed tuning may have a learning rate and epochs of its own."""
    embed = method == "embed"
    rate = config.embed_learning_rate if embed and config.embed_learning_rate is not None else config.learning_rate
    epochs = config.embed_epochs if embed and config.embed_epochs is not None else config.epochs
    return {
        "learning_rate": rate,
        "epochs": epochs,
        "batch_size": config.batch_size,
        "gradient_accumulation": config.gradient_accumulation,
        "warmup_ratio": config.warmup_ratio,
        "max_grad_norm": config.max_grad_norm,
        "share_prefix": config.share_prefix,
    }
