"""Trains what a method leaves trainable, through the transformers Trainer: `fit` any model, `train_rows` rows of the embedding.

Must never touch a parameter outside the method's set, nor keep a training loop of its own.
"""

from __future__ import annotations

import math
import os
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from ks_lottery.checkpoint.patch import RowPatch
from ks_lottery.corpus.batches import collate
from ks_lottery.errors import UserError
from ks_lottery.models.language_model import LabelledLanguageModel
from ks_lottery.models.quiet import quiet
from ks_lottery.models.sides import base_values, check_side, installed_rows
from ks_lottery.tuning.session import Progress, Session

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt
    from transformers import PreTrainedModel, TrainerCallback, TrainingArguments

    from ks_lottery.checkpoint.patch import Side
    from ks_lottery.config import TrainConfig
    from ks_lottery.corpus.batches import Example
    from ks_lottery.models.load import LoadedModel


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


@dataclass(frozen=True)
class Trained:
    """What a training of rows left: the patch, and the mean loss at its steps (nats a token)."""

    patch: RowPatch
    losses: tuple[tuple[int, float], ...]


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


@contextmanager
def built_rows(
    loaded: LoadedModel,
    ids: npt.NDArray[np.int64],
    *,
    side: Side,
    share_prefix: bool,
    described: Mapping[str, Any],
    record: bool = False,
) -> Generator[Built[RowPatch]]:
    """Put trainable rows into a model inside a block; afterwards it is as it was.

    They are float32 whatever the precision of the frozen body.

    Parameters
    ----------
    record
        Let the patch carry what each row contributed (`AttributionRecorder`); on the input side.
    """
    from ks_lottery.tuning.attribution import AttributionRecorder

    start = base_values(loaded, ids, side)
    with installed_rows(loaded.lm, ids, start["values"], side, start["output_values"]) as rows:  # pyright: ignore[reportArgumentType]
        model = LabelledLanguageModel(loaded.lm, share_prefix=share_prefix)
        recorder = AttributionRecorder(rows.embedding, model) if record and rows.embedding is not None else None

        def leave() -> RowPatch:
            from ks_lottery.tuning.trainer import whole

            copies = [whole(parameter).float() for parameter in rows.parameters()]
            other = copies[1] if len(copies) > 1 else None
            patch = RowPatch(ids, copies[0], loaded.checkpoint.describe(), described, side, other)
            if recorder is None:
                return patch
            made_from = {"base": dict(patch.base), "patch": patch.content}
            return replace(patch, attribution=recorder.attribution(ids, made_from=made_from, settings=described))

        yield Built(model, leave, callbacks=() if recorder is None else (recorder,))


def describe_rows(
    loaded: LoadedModel, method: str, ids: npt.NDArray[np.int64], seed: int, settings: Mapping[str, Any], side: Side
) -> dict[str, Any]:
    """Return what a patch's manifest says of its making."""
    sided = {} if side == "input" else {"side": side}
    return {"method": method, "rows": len(ids), "seed": seed, "dtype": str(loaded.lm.dtype), **settings, **sided}


def train_rows(
    loaded: LoadedModel,
    examples: Sequence[Example],
    ids: npt.NDArray[np.int64],
    *,
    config: TrainConfig,
    seed: int,
    method: str,
    tick: Callable[[int, int], None] | None = None,
    side: Side = "input",
    callbacks: Sequence[TrainerCallback] = (),
) -> Trained:
    """Train the rows `ids` of a model's embedding, starting from the base's, and leave the model as it was.

    Adam (0.9, 0.999), by default without weight decay, which would move rows that no token touches; learning rate along a
    cosine after a warm-up; gradients clipped. The trained rows are float32 whatever the precision of the frozen body.

    Parameters
    ----------
    ids
        Rows, shape (K,), ascending. With none, nothing is trained and the patch is empty.
    method
        Name of the method, for the manifest and for embed tuning's own settings.
    tick
        Called with steps done and steps in all.
    side
        The embedding whose rows are trained: ``input``, ``output``, or ``both``.
    callbacks
        The Trainer's own kind, called beside ours.

    Raises
    ------
    UserError
        When the training diverges, or the model's rows of that side cannot be replaced.
    """
    check_side(loaded.lm, side, loaded.checkpoint.name)
    settings = method_settings(config, method)
    described = describe_rows(loaded, method, ids, seed, settings, side)
    share, record = settings["share_prefix"], method == "embed"
    with built_rows(loaded, ids, side=side, share_prefix=share, described=described, record=record) as built:
        losses: tuple[tuple[int, float], ...] = ()
        if len(ids):
            losses = fit(
                built,
                examples,
                config=config,
                settings=settings,
                seed=seed,
                method=method,
                tick=tick,
                callbacks=callbacks,
            ).losses
        return Trained(built.leave(), losses)


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
        "weight_decay": config.weight_decay,
        "share_prefix": config.share_prefix and not config.gradient_checkpointing,
        "gradient_checkpointing": config.gradient_checkpointing,
    }


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
    """Let activations be computed again inside a block, if asked; the Trainer's change to the model's config is undone."""
    lm: Any = model.lm
    cached = getattr(lm.config, "use_cache", None)
    if config.gradient_checkpointing:
        if not lm.supports_gradient_checkpointing:
            raise UserError(f"{type(lm).__name__} cannot compute activations again: leave gradient checkpointing out")
        lm.activation_checkpointing_enable({"use_reentrant": False})
    try:
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
