"""Trains rows of the embedding: installs them, fits them, and takes them out as a patch.

Must never touch a row outside its set.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ks_lottery.checkpoint.patch import RowPatch
from ks_lottery.models.language_model import LabelledLanguageModel
from ks_lottery.models.sides import base_values, check_side, installed_rows
from ks_lottery.tuning.fitting import Built, fit

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    import numpy as np
    import numpy.typing as npt
    from transformers import TrainerCallback

    from ks_lottery.checkpoint.patch import Side
    from ks_lottery.config.settings import TrainConfig
    from ks_lottery.corpus.batches import Example
    from ks_lottery.models.load import LoadedModel


@dataclass(frozen=True)
class Trained:
    """What a training of rows left: the patch, and the mean loss at its steps (nats a token)."""

    patch: RowPatch
    losses: tuple[tuple[int, float], ...]


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
    from ks_lottery.tuning.recorder import AttributionRecorder

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
