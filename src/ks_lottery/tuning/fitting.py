"""Trains what asks for a gradient, through the transformers Trainer, and returns the product with its losses."""

from __future__ import annotations

import math
import tempfile
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from ks_lottery.corpus.batches import collate
from ks_lottery.errors import UserError
from ks_lottery.models.attention import plain_attention
from ks_lottery.models.quiet import quiet
from ks_lottery.tuning.processes import launched
from ks_lottery.tuning.trainable import FixedLoss, ProductT, Progress, Trainable, TuneResult

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

    from transformers import PreTrainedModel, TrainerCallback, TrainingArguments

    from ks_lottery.config.settings import TrainConfig
    from ks_lottery.corpus.batches import Example
    from ks_lottery.models.language_model import LabelledLanguageModel
    from ks_lottery.tickets.tickets import Tickets
    from ks_lottery.tuning.tune_spec import TuneSpec

FIXED = 16
"""Examples of the training text that the loss is measured on before and after."""


def fit(
    trainable: Trainable[ProductT],
    examples: Sequence[Example],
    *,
    spec: TuneSpec,
    config: TrainConfig,
    rows: Tickets | None = None,
    validation: Sequence[Example] = (),
    watch: Callable[[Progress], None] | None = None,
    tick: Callable[[int, int], None] | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> TuneResult[ProductT]:
    """Train the parameters that ask for a gradient, in place; afterwards the model is in evaluation mode.

    With a folder, it is saved every two minutes, every `TuneSpec.save_every` steps, and when Ctrl-C or SIGTERM stops it.

    Adam (0.9, 0.999), by default without weight decay, which would move rows that no token touches; learning rate along a
    cosine after a warm-up; gradients clipped.

    Parameters
    ----------
    config
        Settings as the training runs (`TuneSpec.train_config`).
    rows
        The rows that are trained, for the result.
    validation
        Examples that the loss is measured on.
    watch, tick
        Called after each step: with `Progress`, or with steps done and steps in all.
    callbacks
        The Trainer's own kind; a `KSCallback` is attached to the Trainer.

    Raises
    ------
    UserError
        When a loss or a trained parameter is no longer finite, or the model cannot be trained as asked.
    """
    import torch
    from transformers import PrinterCallback, TrainerCallback

    from ks_lottery.tuning.saving import Saving, StopRequest
    from ks_lottery.tuning.trainer import Patience, TuneTrainer, last_whole_checkpoint, with_blank

    class Watch(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
            if tick:
                tick(state.global_step, state.max_steps)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:  # noqa: ARG002
            if watch and "loss" in logs:
                tokens = int(state.num_input_tokens_seen)
                watch(Progress(step=state.global_step, steps=state.max_steps, tokens=tokens, loss=logs["loss"]))

    model, lm = trainable.model, trainable.model.lm
    with tempfile.TemporaryDirectory() as scratch, quiet(), _training(model, config, fused=spec.fsdp):
        arguments = _arguments(
            str(spec.folder or scratch), config, spec, lm,
            validates=bool(validation), counts_tokens=watch is not None, autocast=trainable.autocast,
        )  # fmt: skip
        own: list[TrainerCallback] = [Watch(), *trainable.callbacks, *callbacks]
        if spec.patience:
            own.append(Patience(spec.patience))
        if "tensorboard" in spec.report_to:
            own.append(_tensorboard(spec.logs))
        arguments._n_gpu = 1  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  one process, one device: several in one would copy the model at each step
        trainer = TuneTrainer(
            model=model,
            args=arguments,
            train_dataset=with_blank([e.features() for e in examples]),  # pyright: ignore[reportArgumentType]
            eval_dataset=[e.features() for e in validation] or None,  # pyright: ignore[reportArgumentType]
            data_collator=collate,
            callbacks=own,
        )
        trainer.remove_callback(PrinterCallback)
        _attach(callbacks, trainer)
        fixed = [each.features() for each in spread_over(examples, 0 if spec.fsdp else FIXED)]
        before = trainer.mean_loss(fixed)
        resumed = None if spec.folder is None else last_whole_checkpoint(spec.folder)
        if resumed is None or not trainer.restored_end(resumed, spec.patience):
            stop = StopRequest()
            if spec.folder is not None:
                step = config.batch_size * config.gradient_accumulation * arguments.world_size
                by_epoch = bool(validation) and not spec.evaluate_every
                trainer.add_callback(
                    Saving(
                        stop, steps_an_epoch=math.ceil(len(examples) / step), validates_epochs=by_epoch,
                        together=trainer.sums,
                    )
                )  # fmt: skip
            with stop.listening() if spec.folder is not None else nullcontext():
                trainer.train(resume_from_checkpoint=None if resumed is None else str(resumed), stop=stop)
        after = trainer.mean_loss(fixed)
        history, state = trainer.state.log_history, trainer.state
    lm.eval()
    losses = tuple((int(entry["step"]), float(entry["loss"])) for entry in history if "loss" in entry)
    finite = all(bool(torch.isfinite(p).all()) for p in model.parameters() if p.requires_grad)
    if not (finite and all(math.isfinite(loss) for _, loss in losses)):
        raise UserError(
            f"{spec.method} tuning diverged: its loss or rows are no longer finite; give a learning rate below "
            f"{config.learning_rate:g}"
        )
    measured = tuple((int(e["step"]), float(e["eval_loss"])) for e in history if "eval_loss" in e)
    best = (state.best_global_step if spec.patience else None) or state.global_step
    return TuneResult(
        product=trainable.collect(), rows=rows, losses=losses, validation=measured, best_step=best,
        fixed=None if before is None or after is None else FixedLoss(examples=len(fixed), before=before, after=after),
    )  # fmt: skip


def spread_over(examples: Sequence[Example], most: int) -> list[Example]:
    """Return so many examples at equal distances, or all where there are fewer."""
    count = min(most, len(examples))
    return [examples[place * len(examples) // count] for place in range(count)]


def _attach(callbacks: Sequence[TrainerCallback], trainer: Any) -> None:
    if not callbacks:
        return
    from ks_lottery.tuning.callback import KSCallback

    for callback in callbacks:
        if isinstance(callback, KSCallback):
            callback.attach(trainer)


def _arguments(
    folder: str,
    config: TrainConfig,
    spec: TuneSpec,
    lm: PreTrainedModel,
    *,
    validates: bool,
    counts_tokens: bool,
    autocast: bool,
) -> TrainingArguments:
    from transformers import TrainingArguments

    device = "cuda" if spec.fsdp else str(next(lm.parameters()).device.type)
    every = spec.evaluate_every
    rhythm = ("steps" if every else "epoch") if validates else "no"
    saves = "no" if spec.folder is None else rhythm if spec.patience else "steps"
    return TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=config.batch_size,
        gradient_accumulation_steps=config.gradient_accumulation,
        num_train_epochs=config.epochs,
        learning_rate=config.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=config.warmup_ratio,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        optim="adamw_torch",
        train_sampling_strategy="group_by_length",
        seed=spec.seed,
        bf16=autocast,
        report_to=[name for name in spec.report_to if name != "tensorboard"],
        save_strategy=saves,
        save_steps=every if spec.patience and every else spec.save_every,
        save_total_limit=2,
        eval_strategy=rhythm,
        eval_steps=every or None,
        load_best_model_at_end=bool(spec.patience),
        metric_for_best_model="eval_loss" if validates else None,
        greater_is_better=False if validates else None,
        include_num_input_tokens_seen="non_padding" if counts_tokens else "no",
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=device == "cuda",
        use_cpu=device == "cpu",
        ddp_backend="gloo" if device == "cpu" and launched() else None,
        ddp_find_unused_parameters=False,
        fsdp=True if spec.fsdp else None,  # pyright: ignore[reportArgumentType]
        fsdp_config=dict(spec.fsdp_config) if spec.fsdp else None,
    )


@contextmanager
def _training(model: LabelledLanguageModel, config: TrainConfig, *, fused: bool) -> Generator[None]:
    """Set what training wants of the model inside a block, and undo it, the Trainer's change to its config too.

    Activations are computed again, if asked; attention is `plain_attention`, or fused for a model that is sharded over GPUs.
    """
    lm: Any = model.lm
    cached = getattr(lm.config, "use_cache", None)
    if config.gradient_checkpointing:
        if not lm.supports_gradient_checkpointing:
            raise UserError(f"{type(lm).__name__} cannot compute activations again: leave gradient checkpointing out")
        lm.activation_checkpointing_enable({"use_reentrant": False})
    try:
        with nullcontext() if fused else plain_attention(model.lm):
            yield
    finally:
        if config.gradient_checkpointing:
            lm.activation_checkpointing_disable()
        if cached is not None:
            lm.config.use_cache = cached


def _tensorboard(logs: Path | None) -> TrainerCallback:
    from transformers.integrations.integration_utils import TensorBoardCallback

    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError("`report_to=tensorboard` needs a package: pip install tensorboard") from error
    return TensorBoardCallback(None if logs is None else SummaryWriter(str(logs)))
