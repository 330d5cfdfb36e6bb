"""The library's call for tuning by any method of the paper. The command `tune` and the stages of a run go the same way."""

from __future__ import annotations

from dataclasses import fields, replace
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from ks_lottery.config.settings import TrainConfig
from ks_lottery.config.values import check_names
from ks_lottery.corpus.batches import encode
from ks_lottery.corpus.corpus import Corpus
from ks_lottery.corpus.monolingual import token_counts
from ks_lottery.corpus.prompts import instruction, render_prompt
from ks_lottery.errors import UserError
from ks_lottery.models.load import LoadedModel, choose_device, choose_dtype, load_model, load_tokenizer, open_checkpoint
from ks_lottery.models.quantized import quantization_config
from ks_lottery.models.sides import check_side
from ks_lottery.tuning.methods import default_rates, method_rows
from ks_lottery.tuning.processes import launched
from ks_lottery.tuning.trainable import Trainable, TuneResult
from ks_lottery.tuning.tune_spec import TuneSpec
from ks_lottery.tuning.tuning import Tuning

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import TrainerCallback

    from ks_lottery.checkpoint.patch import RowPatch, Side
    from ks_lottery.checkpoint.reader import Checkpoint
    from ks_lottery.corpus.batches import Example
    from ks_lottery.tickets.tickets import Tickets
    from ks_lottery.tuning.adapters import Adapter
    from ks_lottery.tuning.full import TunedModel

    Base = str | Path | Checkpoint | LoadedModel
    Text = Corpus | Sequence[Example]

__all__ = ["Trainable", "TuneResult", "TuneSpec", "Tuning", "prepare", "tune"]

RowMethod = Literal["embed", "partial", "frequency", "occurrence", "random", "random-reachable", "frozen"]
AdapterMethod = Literal["lora", "qlora", "prefix", "prompt"]


def prepare(base: Base, corpus: Text, spec: TuneSpec, validation: Text | None = None) -> Tuning:
    """Load what is to be trained and check it, before any training.

    Full tuning and a body in 4 bits get a model of their own; every other method uses `base` if that is a loaded model.

    Parameters
    ----------
    base
        A folder, GGUF file or hub id, an opened checkpoint, or a loaded model.
    corpus
        Text, or examples that `ks_lottery.corpus.batches.encode` made.
    spec
        What is asked for.
    validation
        Text or examples that the loss is measured on.

    Raises
    ------
    UserError
        For whatever is wrong with model, text, method or settings.
    """
    if isinstance(base, str | Path):
        base = open_checkpoint(str(base))
    if isinstance(base, LoadedModel):
        loaded_type: Any = str(base.lm.dtype).removeprefix("torch.")
        spec = replace(spec, dtype=loaded_type)
    checkpoint = base.checkpoint if isinstance(base, LoadedModel) else base
    config = spec.train_config(default_rates(spec.method, checkpoint.name))
    if spec.method == "prefix" and config.gradient_checkpointing:
        raise UserError(
            "prefix tuning puts keys and values into a cache, which gradient checkpointing switches off: leave it out"
        )
    if isinstance(corpus, Corpus) and spec.template != "chat":
        render_prompt(spec.template, instruction(corpus.source_language, corpus.target_language), "")
    _check_reports(spec)
    if spec.patience and not validation:
        raise UserError("patience needs a validation text: give `validation`")
    if spec.patience and spec.folder is None:
        raise UserError("patience needs a folder for checkpoints, from which the best parameters are taken")
    loaded = _load(base, spec)
    _check_sharding(spec, loaded)
    examples = _encode(loaded, corpus, spec)
    held_out = [] if validation is None else _encode(loaded, validation, spec)
    if spec.kind == "rows":
        check_side(loaded.lm, spec.side, checkpoint.name)
    return Tuning(
        spec=spec,
        loaded=loaded,
        config=config,
        examples=examples,
        validation=held_out,
        rows=method_rows(spec, loaded, examples),
        corpus=corpus if isinstance(corpus, Corpus) else None,
        validation_corpus=validation if isinstance(validation, Corpus) else None,
    )


def _load(base: Checkpoint | LoadedModel, spec: TuneSpec) -> LoadedModel:
    checkpoint = base.checkpoint if isinstance(base, LoadedModel) else base
    device = next(base.lm.parameters()).device.type if isinstance(base, LoadedModel) else spec.device
    more: dict[str, Any] = {"device": device, "trust_remote_code": spec.trust_remote_code}
    if spec.quantization is not None:
        compute = choose_dtype(spec.dtype, choose_device(device))
        quantization = quantization_config(spec.quantization, compute)
        return load_model(checkpoint, dtype=spec.dtype, quantization=quantization, **more)
    if spec.kind == "full":
        return load_model(checkpoint, dtype="float32", **more)
    return base if isinstance(base, LoadedModel) else load_model(checkpoint, dtype=spec.dtype, **more)


def _encode(loaded: LoadedModel, corpus: Text, spec: TuneSpec) -> Sequence[Example]:
    if not isinstance(corpus, Corpus):
        if not corpus:
            raise UserError("there is no example: give at least one")
        return corpus
    examples, _ = encode(loaded.tokenizer, corpus, template=spec.template, max_tokens=spec.max_tokens)
    if not examples:
        raise UserError(f"no example of {corpus.origin} fits into {spec.max_tokens} tokens: raise `max_tokens`")
    return examples


def _check_reports(spec: TuneSpec) -> None:
    """Refuse trackers that are not installed."""
    if not spec.report_to:
        return
    from transformers.integrations.integration_utils import get_available_reporting_integrations

    available = get_available_reporting_integrations()
    for name in spec.report_to:
        if name not in available:
            raise UserError(
                f"tracker {name} is not known to transformers or not installed; here are {', '.join(available) or 'none'}"
            )


def _check_sharding(spec: TuneSpec, loaded: LoadedModel) -> None:
    """Refuse sharding where the Trainer would quietly do something else."""
    if not spec.fsdp:
        return
    if next(loaded.lm.parameters()).device.type == "cpu":
        raise UserError("`fsdp` needs GPUs: on a CPU the Trainer would turn it into DDP, so leave `fsdp` out")
    if not launched():
        raise UserError("`fsdp` shards over processes: start the command with torchrun or accelerate launch")


@overload
def tune(base: Base, corpus: Text, *, method: RowMethod = ..., **more: Any) -> RowPatch: ...
@overload
def tune(base: Base, corpus: Text, *, method: AdapterMethod, **more: Any) -> Adapter: ...
@overload
def tune(base: Base, corpus: Text, *, method: Literal["full"], **more: Any) -> TunedModel: ...
@overload
def tune(base: Base, corpus: Text, *, method: str, **more: Any) -> Any: ...
def tune(
    base: Base,
    corpus: Text,
    *,
    method: str = TuneSpec.method,
    tickets: Tickets | None = None,
    size: int | None = TuneSpec.size,
    target_text: Sequence[str] | None = None,
    side: Side = TuneSpec.side,
    layers: str | None = TuneSpec.layers,
    quantize: str | None = TuneSpec.quantize,
    template: str = TuneSpec.template,
    max_tokens: int = TuneSpec.max_tokens,
    validation: Text | None = None,
    folder: str | Path | None = None,
    save_every: int = TuneSpec.save_every,
    evaluate_every: int = TuneSpec.evaluate_every,
    patience: int = TuneSpec.patience,
    report_to: Sequence[str] = TuneSpec.report_to,
    callbacks: Sequence[TrainerCallback] = (),
    dtype: Literal["auto", "float32", "bfloat16"] = TuneSpec.dtype,
    device: Literal["auto", "cpu", "cuda", "mps"] = TuneSpec.device,
    trust_remote_code: bool = TuneSpec.trust_remote_code,
    fsdp: bool = TuneSpec.fsdp,
    seed: int = TuneSpec.seed,
    **settings: Any,
) -> Any:
    """Tune a model on `corpus` by one of the paper's methods; `base` is unchanged afterwards.

    The same as ``prepare(base, corpus, TuneSpec(...)).run().product``; `TuneSpec` says more of each setting.

    Parameters
    ----------
    base
        A folder, GGUF file or hub id, an opened checkpoint, or a loaded model.
    corpus
        Text, or examples that `ks_lottery.corpus.batches.encode` made.
    method
        Rows: ``embed`` (every row the corpus reaches), ``partial`` (the `tickets`), ``frozen`` (every row but the first
        `size` tickets), ``frequency``, ``occurrence``, ``random`` (of the whole vocabulary) and ``random-reachable`` (`size`
        rows, by default as many as there are tickets). Others: ``full``, ``lora``, ``qlora``, ``prefix``, ``prompt``.
    target_text
        Sentences of the target language, whose tokens ``frequency`` counts.
    side
        The embedding whose rows are trained: ``input``, ``output`` or ``both``.
    layers
        For ``full``: numbers (``3``, ``0,4-7``) or glob patterns for names.
    quantize
        ``nf4``: the frozen body in 4 bits (needs bitsandbytes); ``qlora`` always has that.
    validation
        Text that the loss is measured on, once an epoch or after every `evaluate_every` steps.
    folder
        Where checkpoints are written every `save_every` steps, and from which an interrupted training resumes.
    patience
        Stop after so many measurements without a better one, and keep the best parameters; needs `validation` and `folder`.
    report_to
        Trackers, by the names that transformers has for them.
    callbacks
        The transformers Trainer's own kind; a `KSCallback` is attached to the Trainer.
    dtype, device, trust_remote_code
        How the model is loaded where it is not loaded yet.
    settings
        Fields of `TrainConfig`, such as ``learning_rate``, ``epochs`` and ``batch_size``. Learning rate and epochs are the
        paper's for the method (`ks_lottery.config.choices.METHODS`) unless given.

    Returns
    -------
    RowPatch, TunedModel or Adapter
        Each has ``save(folder)``.

    Raises
    ------
    UserError
        When a setting or the method is not known, no example fits into `max_tokens`, the model cannot be handled, or the
        training diverges.
    """
    known = [item.name for item in fields(TrainConfig)]
    if unknown := [name for name in settings if name not in known]:
        check_names("tune", unknown, [*signature(tune).parameters, *known])
    if isinstance(base, str | Path):
        base = open_checkpoint(str(base))
    frequencies = {}
    if target_text is not None:
        tokenizer = (
            base.tokenizer
            if isinstance(base, LoadedModel)
            else load_tokenizer(base, trust_remote_code=trust_remote_code)
        )
        frequencies = token_counts(tokenizer, target_text)
    spec = TuneSpec(
        method=method, tickets=tickets, size=size, frequencies=frequencies, side=side, layers=layers, quantize=quantize,
        template=template, max_tokens=max_tokens, seed=seed, settings=settings, save_every=save_every,
        folder=None if folder is None else Path(folder), evaluate_every=evaluate_every, patience=patience,
        report_to=report_to, dtype=dtype, device=device, trust_remote_code=trust_remote_code, fsdp=fsdp,
    )  # fmt: skip
    return prepare(base, corpus, spec, validation).run(callbacks=callbacks).product
