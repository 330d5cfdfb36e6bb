"""A tuning made ready: model, examples, method and settings, checked against each other before anything is trained.

Must never leave the caller's model other than it was.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ks_lottery.config.settings import TrainConfig
from ks_lottery.corpus.batches import encode
from ks_lottery.errors import UserError
from ks_lottery.models.load import LoadedModel, choose_dtype, load_model
from ks_lottery.models.quantized import quantization_config
from ks_lottery.models.sides import check_side
from ks_lottery.tuning.adapters import built_adapter
from ks_lottery.tuning.fitting import Built, Fit, Outcome, fit
from ks_lottery.tuning.full import built_full
from ks_lottery.tuning.methods import SIZED, Choice, default_rates, method_named, rows_of
from ks_lottery.tuning.row_training import built_rows, describe_rows, method_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from transformers import TrainerCallback

    from ks_lottery.checkpoint.patch import Side
    from ks_lottery.checkpoint.reader import Checkpoint
    from ks_lottery.corpus.batches import Example
    from ks_lottery.corpus.corpus import Corpus
    from ks_lottery.tickets.tickets import Tickets
    from ks_lottery.tuning.session import Session


@dataclass(frozen=True)
class Request:
    """What a tuning is asked for, beside model and text.

    Parameters
    ----------
    method
        One of `presets.PRESETS`.
    tickets
        For `partial` and `frozen`; their number is also the size of the methods that draw or count.
    size
        Number of rows of those methods; for `frozen`, how many of the first tickets are frozen.
    frequencies
        Count of each token in a text of the target language, for `frequency`.
    side
        The embedding whose rows are trained.
    layers
        For `full`: numbers or glob patterns.
    quantize
        ``nf4``: the frozen body in 4 bits.
    dtype, device
        Of the body, where it is not loaded yet; `full` computes in `dtype` over float32 parameters.
    settings
        Fields of `TrainConfig`; learning rate and epochs are the paper's for the method unless given.
    """

    method: str = "embed"
    tickets: Tickets | None = None
    size: int | None = None
    frequencies: Mapping[int, int] = field(default_factory=dict)
    side: Side = "input"
    layers: str | None = None
    quantize: str | None = None
    template: str = "alpaca"
    max_tokens: int = 512
    dtype: str = "auto"
    device: str = "auto"
    trust_remote_code: bool = False
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)

    def config(self, model: str) -> TrainConfig:
        """Return the settings of the training, the method's defaults filled in.

        Raises
        ------
        UserError
            When a setting is not known or out of range.
        """
        given = {key: value for key, value in self.settings.items() if value is not None}
        try:
            return replace(TrainConfig(), **{**default_rates(self.method, model), **given})
        except TypeError as error:
            raise UserError(f"tune knows no such setting: {error}") from error

    def check(self) -> None:
        """Refuse what does not belong together.

        Raises
        ------
        UserError
            When an option is given to a method that has no use for it.
        """
        kind = method_named(self.method).kind
        if self.layers is not None and kind != "full":
            raise UserError(f"--layers is for full tuning, not for {self.method}")
        if self.side != "input" and kind != "rows":
            raise UserError(f"--side is for methods that train rows, not for {self.method}")
        if self.quantize is not None and kind == "full":
            raise UserError("full tuning trains the body, which therefore cannot be quantised: leave --quantize out")
        if self.size is not None and (self.size < 1 or self.method not in (*SIZED, "frozen")):
            raise UserError(f"--size is 1 or more, and for {', '.join(SIZED)} and frozen, not {self.method}")
        if self.method in SIZED and self.size is None and self.tickets is None:
            raise UserError(f"{self.method} tuning needs --size, the number of rows, or tickets to take their number")


@dataclass(frozen=True)
class Task:
    """A tuning made ready.

    Parameters
    ----------
    overlong, overlong_validation
        Number of examples that were left out as too long.
    rows
        Rows that are trained, for methods that train rows.
    described
        What manifests say of the settings.
    """

    request: Request
    loaded: LoadedModel
    config: TrainConfig
    examples: Sequence[Example]
    overlong: int
    validation: Sequence[Example]
    overlong_validation: int
    rows: Tickets | None
    described: Mapping[str, Any]

    @contextmanager
    def built(self) -> Generator[Built[Any]]:
        """Make the model trainable inside a block, as the method says."""
        share = bool(method_settings(self.config, self.request.method)["share_prefix"])
        request, kind = self.request, method_named(self.request.method).kind
        if self.rows is not None:
            building: Any = built_rows(
                self.loaded,
                self.rows.ids,
                side=request.side,
                share_prefix=share,
                described=self.described,
                record=request.method == "embed",
            )
        elif kind == "full":
            # The body is float32 here; what the user's choice of type decides is what it is computed in.
            device = next(self.loaded.lm.parameters()).device.type
            half = str(choose_dtype(request.dtype, device)) == "torch.bfloat16"
            building = built_full(
                self.loaded, request.layers, share_prefix=share, autocast=half, described=self.described
            )
        else:
            building = built_adapter(
                self.loaded, request.method, share_prefix=share, described=self.described, seed=request.seed
            )
        with building as built:
            yield built

    def train(
        self,
        session: Session | None = None,
        *,
        tick: Callable[[int, int], None] | None = None,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> tuple[Outcome, Fit]:
        """Train, and return what the method leaves and what the training went through."""
        settings = method_settings(self.config, self.request.method)
        with self.built() as built:
            if self.rows is not None and len(self.rows) == 0:
                return built.leave(), Fit((), (), 0)
            done = fit(
                built,
                self.examples,
                config=self.config,
                settings=settings,
                seed=self.request.seed,
                method=self.request.method,
                tick=tick,
                callbacks=callbacks,
                session=session,
            )
            return built.leave(), done


def make_ready(
    base: Checkpoint | LoadedModel, corpus: Corpus, request: Request, *, validation: Corpus | None = None
) -> Task:
    """Load what is to be trained and check it, before any training.

    Full tuning and a body in 4 bits get a model of their own; every other method uses `base` if that is a loaded model.

    Raises
    ------
    UserError
        For whatever is wrong with model, text, method or settings.
    """
    from ks_lottery.corpus.prompts import instruction, render_prompt

    request.check()
    if isinstance(base, LoadedModel):
        request = replace(request, dtype=str(base.lm.dtype).removeprefix("torch."))
    checkpoint = base.checkpoint if isinstance(base, LoadedModel) else base
    config = request.config(checkpoint.name)
    if request.method == "prefix" and config.gradient_checkpointing:
        raise UserError(
            "prefix tuning puts keys and values into a cache, which gradient checkpointing switches off: leave it out"
        )
    order = instruction(corpus.source_language, corpus.target_language)
    if request.template != "chat":
        render_prompt(request.template, order, "")
    loaded = _loaded(base, request)
    examples, _ = encode(loaded.tokenizer, corpus, template=request.template, max_tokens=request.max_tokens)
    if not examples:
        raise UserError(f"no example of {corpus.origin} fits into {request.max_tokens} tokens: raise max_tokens")
    held: list[Example] = []
    if validation is not None:
        held, _ = encode(loaded.tokenizer, validation, template=request.template, max_tokens=request.max_tokens)
        if not held:
            raise UserError(
                f"no example of {validation.origin} fits into {request.max_tokens} tokens: raise max_tokens"
            )
    rows: Tickets | None = None
    if method_named(request.method).kind == "rows":
        check_side(loaded.lm, request.side, checkpoint.name)
        tickets = request.tickets
        size = request.size if request.size is not None else 0 if tickets is None else len(tickets)
        choice = Choice(loaded, examples, tickets, size, request.seed, request.frequencies, request.side)
        rows = rows_of(request.method, choice)
    settings = method_settings(config, request.method)
    if rows is not None:
        described = describe_rows(loaded, request.method, rows.ids, request.seed, settings, request.side)
    else:
        described = {"method": request.method, "seed": request.seed, "dtype": str(loaded.lm.dtype), **settings}
    described |= {"layers": request.layers} if request.layers is not None else {}
    described |= {"quantize": kind} if (kind := _quantisation(request)) is not None else {}
    return Task(
        request, loaded, config, examples, len(corpus) - len(examples), held,
        0 if validation is None else len(validation) - len(held), rows, described,
    )  # fmt: skip


def _quantisation(request: Request) -> str | None:
    return "nf4" if request.method == "qlora" else request.quantize


def _loaded(base: Checkpoint | LoadedModel, request: Request) -> LoadedModel:
    checkpoint = base.checkpoint if isinstance(base, LoadedModel) else base
    device = next(base.lm.parameters()).device.type if isinstance(base, LoadedModel) else request.device
    more: dict[str, Any] = {"device": device, "trust_remote_code": request.trust_remote_code}
    kind = _quantisation(request)
    if kind is not None:
        from ks_lottery.models.load import choose_device

        compute = choose_dtype(request.dtype, choose_device(device))
        return load_model(checkpoint, dtype=request.dtype, quantization=quantization_config(kind, compute), **more)
    if method_named(request.method).kind == "full":
        return load_model(checkpoint, dtype="float32", **more)
    return base if isinstance(base, LoadedModel) else load_model(checkpoint, dtype=request.dtype, **more)
