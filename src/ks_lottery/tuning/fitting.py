"""Trains what a method leaves trainable, through the transformers Trainer, and says what the training went through.

Must never touch a parameter that asks for no gradient, nor keep a training loop of its own.
"""

from __future__ import annotations

import math
import os
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from ks_lottery.corpus.batches import collate
from ks_lottery.errors import UserError
from ks_lottery.models.attention import plain_attention
from ks_lottery.models.quiet import quiet
from ks_lottery.tuning.session import Progress, Session

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

    from transformers import PreTrainedModel, TrainerCallback, TrainingArguments

    from ks_lottery.config.settings import TrainConfig
    from ks_lottery.corpus.batches import Example
    from ks_lottery.models.language_model import LabelledLanguageModel


@dataclass(frozen=True)
class Fit:
    """What a training went through.

    Parameters
    ----------
    losses
        Step and mean loss of the step, nats a token.
    validation
        Step and loss on the validation text.
    best_step
        The step whose parameters were kept, where early stopping chose one; else the last.
    """

    losses: tuple[tuple[int, float], ...]
    validation: tuple[tuple[int, float], ...]
    best_step: int


class Outcome(Protocol):
    """What a method leaves: it knows how many parameters were trained, and writes itself into a folder."""

    @property
    def parameters(self) -> int:
        """Number of trained parameters."""
        ...

    def save(self, folder: Path) -> object:
        """Write it into a folder."""
        ...


OutcomeT = TypeVar("OutcomeT", bound=Outcome)


@dataclass(frozen=True)
class Built(Generic[OutcomeT]):
    """A model ready to train: what asks for a gradient is what the method trains.

    Parameters
    ----------
    leave
        Takes what was trained out of the model; every process calls it.
    autocast
        Compute in bfloat16 over float32 parameters.
    callbacks
        The Trainer's own kind, that the method brings along.
    """

    model: LabelledLanguageModel
    leave: Callable[[], OutcomeT]
    autocast: bool = False
    callbacks: Sequence[TrainerCallback] = ()


def fit(
    built: Built[Any],
    examples: Sequence[Example],
    *,
    config: TrainConfig,
    settings: dict[str, Any],
    seed: int,
    method: str,
    tick: Callable[[int, int], None] | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    session: Session | None = None,
) -> Fit:
    """Train the parameters of a built model that ask for a gradient, in place; afterwards it is in evaluation mode.

    Parameters
    ----------
    settings
        Learning rate and epochs (`method_settings`).
    session
        Checkpoints, validation and watchers; by default none.

    Raises
    ------
    UserError
        When a loss or a trained parameter is no longer finite, or the model cannot be trained as asked.
    """
    import torch
    from transformers import PrinterCallback, TrainerCallback

    from ks_lottery.tuning.trainer import Patience, TuneTrainer, last_whole_checkpoint, with_blank

    class Watch(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
            if tick:
                tick(state.global_step, state.max_steps)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:  # noqa: ARG002
            if around.watch and "loss" in logs:
                around.watch(
                    Progress(state.global_step, state.max_steps, int(state.num_input_tokens_seen), logs["loss"])
                )

    around = session or Session()
    model, lm = built.model, built.model.lm
    check_session(around, lm)
    with tempfile.TemporaryDirectory() as scratch, quiet(), _trainable(model, config):
        arguments = _arguments(
            str(around.folder or scratch), config, settings, seed, around, lm, autocast=built.autocast
        )
        own: list[TrainerCallback] = [Watch(), *built.callbacks, *callbacks]
        if around.patience:
            own.append(Patience(around.patience))
        if "tensorboard" in around.report_to:
            own.append(_tensorboard(around))
        arguments._n_gpu = 1  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  one process, one device: several in one would copy the model at each step
        trainer = TuneTrainer(
            model=model,
            args=arguments,
            train_dataset=with_blank([e.features() for e in examples]),  # pyright: ignore[reportArgumentType]
            eval_dataset=[e.features() for e in around.validation] or None,  # pyright: ignore[reportArgumentType]
            data_collator=collate,
            callbacks=own,
        )
        trainer.remove_callback(PrinterCallback)
        resumed = None if around.folder is None else last_whole_checkpoint(around.folder)
        if resumed is None or not trainer.took_up_the_end(resumed, around.patience):
            trainer.train(resume_from_checkpoint=None if resumed is None else str(resumed))
        history, state = trainer.state.log_history, trainer.state
    lm.eval()
    losses = tuple((int(entry["step"]), float(entry["loss"])) for entry in history if "loss" in entry)
    finite = all(bool(torch.isfinite(p).all()) for p in model.parameters() if p.requires_grad)
    if not (finite and all(math.isfinite(loss) for _, loss in losses)):
        raise UserError(
            f"{method} tuning diverged: its loss or rows are no longer finite; give a learning rate below "
            f"{settings['learning_rate']:g}"
        )
    validation = tuple((int(e["step"]), float(e["eval_loss"])) for e in history if "eval_loss" in e)
    return Fit(
        losses, validation, (state.best_global_step or state.global_step) if around.patience else state.global_step
    )


def launched() -> bool:
    """Say whether torchrun or accelerate launch started this process as one of several."""
    return "LOCAL_RANK" in os.environ and "WORLD_SIZE" in os.environ


def check_session(session: Session, lm: PreTrainedModel) -> None:
    """Refuse early stopping without what it needs, and sharding where the Trainer would quietly do something else.

    Raises
    ------
    UserError
        Sharding: on a CPU, where it would turn into DDP, or in a single process.
    """
    session.check()
    if not session.fsdp:
        return
    if next(lm.parameters()).device.type == "cpu":
        raise UserError("--fsdp needs GPUs: on a CPU the Trainer would turn it into DDP, so leave --fsdp out")
    if not launched():
        raise UserError("--fsdp shards over processes: start the command with torchrun or accelerate launch")


def _arguments(
    folder: str,
    config: TrainConfig,
    settings: dict[str, Any],
    seed: int,
    session: Session,
    lm: PreTrainedModel,
    *,
    autocast: bool,
) -> TrainingArguments:
    from transformers import TrainingArguments

    device = str(next(lm.parameters()).device.type)
    every = session.evaluate_every
    evaluates = bool(session.validation)
    rhythm = ("steps" if every else "epoch") if evaluates else "no"
    saves = "no" if session.folder is None else rhythm if session.patience else "steps"
    return TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=config.batch_size,
        gradient_accumulation_steps=config.gradient_accumulation,
        num_train_epochs=settings["epochs"],
        learning_rate=settings["learning_rate"],
        lr_scheduler_type="cosine",
        warmup_steps=config.warmup_ratio,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        optim="adamw_torch",
        train_sampling_strategy="group_by_length",
        seed=seed,
        bf16=autocast,
        report_to=[name for name in session.report_to if name != "tensorboard"],
        save_strategy=saves,
        save_steps=every if session.patience and every else session.save_every,
        save_total_limit=2,
        eval_strategy=rhythm,
        eval_steps=every or None,
        load_best_model_at_end=bool(session.patience),
        metric_for_best_model="eval_loss" if evaluates else None,
        greater_is_better=False if evaluates else None,
        include_num_input_tokens_seen="non_padding" if session.watch else "no",
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=device == "cuda",
        use_cpu=device == "cpu",
        ddp_backend="gloo" if device == "cpu" and launched() else None,
        ddp_find_unused_parameters=False,
        fsdp=True if session.fsdp else None,  # pyright: ignore[reportArgumentType]
        fsdp_config=dict(session.fsdp_config) if session.fsdp else None,
    )


@contextmanager
def _trainable(model: LabelledLanguageModel, config: TrainConfig) -> Generator[None]:
    """Set what training wants of the model inside a block, and undo it, the Trainer's change to its config too.

    Activations are computed again, if asked; attention is `plain_attention`.
    """
    lm: Any = model.lm
    cached = getattr(lm.config, "use_cache", None)
    if config.gradient_checkpointing:
        if not lm.supports_gradient_checkpointing:
            raise UserError(f"{type(lm).__name__} cannot compute activations again: leave gradient checkpointing out")
        lm.activation_checkpointing_enable({"use_reentrant": False})
    try:
        with plain_attention(model.lm):
            yield
    finally:
        if config.gradient_checkpointing:
            lm.activation_checkpointing_disable()
        if cached is not None:
            lm.config.use_cache = cached


def _tensorboard(session: Session) -> TrainerCallback:
    from transformers.integrations.integration_utils import TensorBoardCallback

    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError("--report-to tensorboard needs a package: pip install tensorboard") from error
    return TensorBoardCallback(None if session.logs is None else SummaryWriter(str(session.logs)))
