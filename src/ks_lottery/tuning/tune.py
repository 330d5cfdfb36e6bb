"""The library's call for tuning by any method of the paper. The command `tune` and the stages of a run go the same way."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

from ks_lottery.config.groups import TextSource
from ks_lottery.config.settings import TrainConfig
from ks_lottery.config.values import checks_names
from ks_lottery.corpus.cleaned import open_cleaned
from ks_lottery.corpus.corpus import Corpus
from ks_lottery.corpus.mixed_templates import resolved_template
from ks_lottery.corpus.monolingual import token_counts
from ks_lottery.errors import LearningRateWarning
from ks_lottery.models.devices import choose_device, choose_dtype
from ks_lottery.models.load import LoadedModel, load_model, load_tokenizer, open_checkpoint
from ks_lottery.models.quantized import quantization_config
from ks_lottery.models.sides import check_side
from ks_lottery.report.progress import progress_bar
from ks_lottery.tickets.tickets import Tickets
from ks_lottery.tuning.checks import check_packages, check_rows_given, check_sharding, check_training
from ks_lottery.tuning.encoding import encoded
from ks_lottery.tuning.methods import default_rates, defaults, method_rows
from ks_lottery.tuning.scale import fitted_config, scale_of
from ks_lottery.tuning.token_prompt import prompt_of_its_own
from ks_lottery.tuning.token_rows import with_token_rows
from ks_lottery.tuning.trainable import Trainable, TuneResult
from ks_lottery.tuning.tune_spec import TuneSpec
from ks_lottery.tuning.tuning import Tuning

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import TrainerCallback

    from ks_lottery.checkpoint.patch import RowPatch, Side
    from ks_lottery.checkpoint.reader import Checkpoint
    from ks_lottery.corpus.batches import Example
    from ks_lottery.tuning.adapters import Adapter
    from ks_lottery.tuning.full import TunedModel
    from ks_lottery.tuning.tune_keywords import AdapterMethod, RowMethod, TuneKeywords

    Base = str | Path | Checkpoint | LoadedModel
    Text = Corpus | TextSource | str | Path | Sequence[Example]

__all__ = ["Trainable", "TuneResult", "TuneSpec", "Tuning", "prepare", "tune"]


def prepare(base: Base, corpus: Text, spec: TuneSpec, validation: Text | None = None) -> Tuning:
    """Load what is to be trained and check it, before any training.

    Full tuning and a body in 4 bits get a model of their own; every other method uses `base` if that is a loaded model.

    Parameters
    ----------
    base
        A folder, GGUF file or hub id, an opened checkpoint, or a loaded model.
    corpus
        Text (see `open_cleaned`), or examples that `ks_lottery.corpus.batches.encode` made.
    spec
        What is asked for.
    validation
        Text or examples that the loss is measured on.

    Raises
    ------
    UserError
        For whatever is wrong with model, text, method or settings.
    """
    check_packages(spec.quantization, spec.report_to)
    corpus, validation = _opened(corpus), None if validation is None else _opened(validation)
    if not isinstance(base, LoadedModel):
        base = open_checkpoint(base)
    if isinstance(base, LoadedModel):
        spec = replace(spec, dtype=str(base.lm.dtype).removeprefix("torch."))  # pyright: ignore[reportArgumentType]
    checkpoint = base.checkpoint if isinstance(base, LoadedModel) else base
    config = spec.train_config(default_rates(spec.method))
    check_training(spec, config, validates=bool(validation))
    spec = replace(spec, template=resolved_template(spec.template))
    if spec.tickets is not None:
        spec.tickets.check_base(checkpoint)
    loaded = _load(base, spec)
    check_sharding(spec)
    spec, loaded, added = with_token_rows(spec, loaded, corpus)
    spec, loaded, prompt, brought = prompt_of_its_own(spec, loaded, corpus, validation)
    examples = encoded(loaded, corpus, spec)
    config, fitted = fitted_config(spec, config, checkpoint, examples)
    held_out = [] if validation is None else encoded(loaded, validation, spec)
    if spec.kind == "rows":
        check_side(loaded.lm, spec.side, checkpoint.name)
    return Tuning(
        spec=spec,
        loaded=loaded,
        config=config,
        fitted=fitted,
        examples=examples,
        validation=held_out,
        rows=None if spec.measures else method_rows(spec, loaded, examples),
        prompt=prompt,
        new_tokens=added or brought,
        corpus=corpus if isinstance(corpus, Corpus) else None,
        validation_corpus=validation if isinstance(validation, Corpus) else None,
    )


def _opened(text: Text) -> Corpus | Sequence[Example]:
    return open_cleaned(text) if isinstance(text, str | Path | TextSource) else text


def _load(base: Checkpoint | LoadedModel, spec: TuneSpec) -> LoadedModel:
    checkpoint = base.checkpoint if isinstance(base, LoadedModel) else base
    device = base.device.type if isinstance(base, LoadedModel) else spec.device
    more: dict[str, Any] = {"device": device, "trust_remote_code": spec.trust_remote_code}
    if spec.quantization is not None:
        compute = choose_dtype(spec.dtype, choose_device(device))
        quantization = quantization_config(spec.quantization, compute)
        return load_model(checkpoint, dtype=spec.dtype, quantization=quantization, **more)
    if spec.fsdp and not (isinstance(base, LoadedModel) or spec.measures):  # whole, it may not fit on one GPU
        kind: Any = str(choose_dtype(spec.dtype, choose_device(device))).removeprefix("torch.")
        spec, more["device"] = replace(spec, dtype=kind), "cpu"
    if spec.kind == "full":
        return load_model(checkpoint, dtype="float32", **more)
    return base if isinstance(base, LoadedModel) else load_model(checkpoint, dtype=spec.dtype, **more)


@overload
def tune(base: Base, corpus: Text, *, method: RowMethod = ..., **settings: Unpack[TuneKeywords]) -> RowPatch: ...
@overload
def tune(base: Base, corpus: Text, *, method: AdapterMethod, **settings: Unpack[TuneKeywords]) -> Adapter: ...
@overload
def tune(base: Base, corpus: Text, *, method: Literal["full"], **settings: Unpack[TuneKeywords]) -> TunedModel: ...
@overload
def tune(base: Base, corpus: Text, *, method: str, **settings: Unpack[TuneKeywords]) -> Any: ...
@checks_names
def tune(
    base: Base,
    corpus: Text,
    *,
    method: str = TuneSpec.method,
    tickets: Tickets | str | Path | None = None,
    by: str | None = None,
    size: int | None = None,
    tokens: int | str | Sequence[str] = TuneSpec.tokens,
    count: int | None = None,
    init: str = TuneSpec.init,
    description: str | None = None,
    also_rows: Tickets | str | Path | None = None,
    target_text: Sequence[str] | None = None,
    side: Side = TuneSpec.side,
    layers: str | None = None,
    quantize: str | None = None,
    template: str = TuneSpec.template,
    max_tokens: int = TuneSpec.max_tokens,
    preset: str | None = None,
    validation: Text | None = None,
    folder: str | Path | None = None,
    save_every: int = TuneSpec.save_every,
    evaluate_every: int = TuneSpec.evaluate_every,
    patience: int = TuneSpec.patience,
    report_to: Sequence[str] = TuneSpec.report_to,
    fsdp: bool = TuneSpec.fsdp,
    callbacks: Sequence[TrainerCallback] = (),
    seed: int = TuneSpec.seed,
    dtype: Literal["auto", "float32", "bfloat16"] = TuneSpec.dtype,
    device: Literal["auto", "cpu", "cuda", "mps"] = TuneSpec.device,
    trust_remote_code: bool = TuneSpec.trust_remote_code,
    learning_rate: float | None = None,
    embed_learning_rate: float | None = None,
    epochs: float | None = None,
    embed_epochs: float | None = None,
    batch_size: int = TrainConfig.batch_size,
    gradient_accumulation: int = TrainConfig.gradient_accumulation,
    warmup_ratio: float = TrainConfig.warmup_ratio,
    max_grad_norm: float = TrainConfig.max_grad_norm,
    weight_decay: float = TrainConfig.weight_decay,
    share_prefix: bool = TrainConfig.share_prefix,
    gradient_checkpointing: bool = TrainConfig.gradient_checkpointing,
    progress: bool = False,
) -> Any:
    """Tune a model on `corpus` by one of the paper's methods; `base` is unchanged afterwards.

    Parameters
    ----------
    base
        A folder, GGUF file or hub id, an opened checkpoint, or a loaded model, which is used as it is. Full tuning and a body
        in 4 bits get a copy of their own.
    corpus
        A corpus, or examples that `ks_lottery.corpus.batches.encode` made; or a file or a dataset, English to Catalan unless a
        `TextSource` says otherwise, which is cleaned as a run does unless that has ``clean=False``.
    method
        Rows: ``embed`` (every row the corpus reaches; the default), ``partial`` (the `tickets`), ``frozen`` (every row but the
        first `size` tickets), ``frequency``, ``occurrence``, ``random`` (of the whole vocabulary) and ``random-reachable``
        (`size` rows, or as many as there are tickets), ``token-prompt`` (a prompt of tokens that text never yields),
        ``new-tokens`` (the rows of `tokens` that the vocabulary does not have). Others: ``full``, ``lora``, ``qlora``,
        ``prefix``, ``prompt``.
    tickets
        Tickets, or the file that they were saved to.
    by
        For ``partial``, in place of `tickets`: a rule of `ks_lottery.config.choices.TEXT_RULES`, such as ``gradient-sum``, that
        chooses rows at the original model, in one pass over the text at most. Without tickets and rule, ``gradient-sum``.
    size, tokens
        Number of rows, 1 or more (18 for a rule unless given); number of tokens of a token prompt, or ``auto`` (the default),
        one a place of `template`; for ``new-tokens`` the tokens: a list, texts with commas between them, a file with one a
        line, or ``auto`` for pieces of the text.
    count, init, description, also_rows
        For ``new-tokens``: number of pieces; ``mean``, ``subwords`` or ``description``, from which values a row starts
        (``auto``: subwords for pieces, else mean); the description, for all tokens; further rows that are trained.
    target_text
        Sentences of the target language, whose tokens ``frequency`` counts.
    side
        The embedding whose rows are trained: ``input`` (the default), ``output`` or ``both``.
    layers
        For ``full``: numbers (``3``, ``0,4-7``) or glob patterns for names; None (the default) for all.
    quantize
        ``nf4``: the frozen body in 4 bits (needs bitsandbytes); ``qlora`` always has that.
    template, max_tokens
        Prompt: ``alpaca`` (the default), another name, ``mixed``, or a text of your own; and the longest example (512 tokens).
    preset
        ``paper``: the training settings of the paper and of its authors' scripts (`ks_lottery.config.presets`), in place of
        every setting that has its default value; None (the default) for none.
    validation
        Text that the loss is measured on, once an epoch or after every `evaluate_every` steps (0, the default: an epoch).
    folder
        Where checkpoints are written every `save_every` steps (100), and from which an interrupted training resumes.
    patience
        Measurements without a better one after which to stop, and keep the best; needs `validation` and `folder`; 0: never.
    report_to, callbacks
        Trackers, by the names of transformers; and the Trainer's own kind of callbacks. A `KSCallback` is attached.
    fsdp
        Shard the model over processes (GPUs; FSDP2); off by default.
    seed
        Seed of every random choice (0).
    dtype, device, trust_remote_code
        As `load_model` takes them, for a base that is not loaded yet.
    learning_rate, epochs
        Above 0; unless given, the paper's for the method (`ks_lottery.config.choices.METHODS`), or the rate that fits the
        model (`ks_lottery.tuning.scale`). `embed_learning_rate` and `embed_epochs` take their place in embed tuning.
    batch_size, gradient_accumulation
        Examples a batch (8), and batches a step (1).
    warmup_ratio, max_grad_norm, weight_decay
        Share of steps in which the rate rises (0.03), norm that gradients are clipped to (1; 0: none), decay (0).
    share_prefix, gradient_checkpointing
        Compute what all prompts of a batch begin with once (on); compute activations again instead of keeping them (off).
    progress
        Show a bar on standard output; off by default.

    Returns
    -------
    RowPatch, TunedModel or Adapter
        Each has ``save(folder)``.

    Raises
    ------
    UserError
        When a value or the method is not known, no example fits, the model cannot be handled, or the training diverges.

    Warns
    -----
    LearningRateWarning
        When the learning rate and the number of steps cannot move a row so far that the KS test would see it.
    """
    settings = {name: value for name, value in locals().items() if name in TrainConfig.__dataclass_fields__}
    check_packages("nf4" if method == "qlora" else None if method == "full" else quantize, report_to)
    corpus, validation = _opened(corpus), None if validation is None else _opened(validation)
    tickets, also = (Tickets.open(one) if isinstance(one, str | Path) else one for one in (tickets, also_rows))
    base = base if isinstance(base, LoadedModel) else open_checkpoint(base)
    frequencies = {}
    if target_text is not None:
        trust = {"trust_remote_code": trust_remote_code}
        own = base.tokenizer if isinstance(base, LoadedModel) else load_tokenizer(base, **trust)
        frequencies = token_counts(own, target_text)
    chosen = defaults(preset, method, settings, seed=seed, max_tokens=max_tokens)
    spec = TuneSpec(
        method=method, tickets=tickets, by=by, size=size, frequencies=frequencies, side=side, layers=layers,
        tokens=str(tokens) if isinstance(tokens, str | int) else json.dumps(list(tokens)), count=count, init=init,
        description=description, also_rows=also,
        quantize=quantize, template=template, dtype=dtype, device=device, trust_remote_code=trust_remote_code, **chosen,
        folder=None if folder is None else Path(folder).expanduser(), save_every=save_every, evaluate_every=evaluate_every,
        patience=patience, report_to=report_to, fsdp=fsdp,
    )  # fmt: skip
    check_rows_given(spec, base.checkpoint if isinstance(base, LoadedModel) else base)
    with progress_bar(f"rows by {by}", show=progress and spec.measures, unit="sentences") as tick:
        tuning = prepare(base, corpus, spec, validation).chosen(tick)
    scale = scale_of(tuning)
    if scale is not None and not scale.is_measurable:
        warnings.warn(LearningRateWarning(scale.sentence()), stacklevel=2)
    if not progress:
        return tuning.run(callbacks=callbacks).product
    from ks_lottery.report.screen import Screen

    screen = Screen()
    if tuning.fitted is not None:
        screen.say(tuning.fitted)
    with screen.training(f"{method} tuning") as watch:
        return tuning.run(watch=watch, callbacks=callbacks).product
