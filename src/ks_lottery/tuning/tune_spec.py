"""What a tuning is asked for, beside model and text."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from ks_lottery.config.choices import (
    MEASURED,
    METHODS,
    RECOMMENDED_RULE,
    RECOMMENDED_SIZE,
    SIZED_METHODS,
    TEXT_RULES,
    Method,
)
from ks_lottery.config.settings import TrainConfig
from ks_lottery.config.train_commands import INITS, TuneOptions
from ks_lottery.config.values import check_names
from ks_lottery.errors import UserError, shortened

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ks_lottery.tickets.tickets import Tickets


PROMPTS = ("token-prompt", "prompt", "prefix")
"""Methods that need a number of tokens."""

OF_NEW_TOKENS = ("count", "description", "also_rows")
"""Settings of new-tokens alone, which are None unless given."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TuneSpec(TuneOptions):
    """What a tuning is asked for, beside model and text.

    Parameters
    ----------
    method
        Key of `ks_lottery.config.choices.METHODS`.
    tickets
        Rows for `partial` and `frozen`; their number is also the default size of the methods that draw or count rows.
    by
        In place of tickets, for `partial`: key of `ks_lottery.config.choices.TEXT_RULES`, which chooses the rows at the
        original model, before any training. Without both, ``ks_lottery.config.choices.RECOMMENDED_RULE``.
    size
        Number of rows of those methods and of `by` (``RECOMMENDED_SIZE`` unless given); for `frozen`, how many of the first
        tickets are frozen.
    tokens
        For `token-prompt`: number of its tokens, or ``auto`` for one in each place of the template. For `prompt` and `prefix`:
        number of virtual tokens, or ``auto`` for the 10 of the paper. For `new-tokens`: the tokens with commas between them, a
        file, a JSON list, or ``auto`` for the `count` pieces of the training text that cost most tokens.
    count, init, description, also_rows
        For `new-tokens`: number of pieces; from which values the rows start, a key of ``INITS``, and the description of
        ``description``; rows that are trained too.
    frequencies
        Count of each token in a text of the target language, for `frequency`.
    side
        The embedding whose rows are trained: ``input``, ``output`` or ``both``.
    layers
        For `full`: numbers (``3``, ``0,4-7``) or glob patterns for names; None for all.
    quantize
        ``nf4``: the frozen body in 4 bits; `qlora` always has that.
    template, max_tokens
        How text is rendered, and the longest example that is kept.
    dtype, device, trust_remote_code
        How the model is loaded where it is not loaded yet; `full` computes in `dtype` over float32 parameters.
    seed
        Of every random choice.
    settings
        Fields of `TrainConfig`. Learning rate and epochs are the paper's for the method unless given.
    folder
        Where checkpoints are written, and from which an interrupted training resumes; None writes none.
    save_every
        Steps between checkpoints.
    evaluate_every
        Steps between measurements of the validation loss; 0 for once an epoch.
    patience
        Measurements without a better one after which the training stops; the best parameters are kept. 0 never stops.
    report_to
        Trackers, by the names that transformers has for them.
    logs
        Folder of TensorBoard's files.
    fsdp, fsdp_config
        Shard the model over the processes (FSDP2, GPUs only), and the Trainer's own settings of it.

    Raises
    ------
    UserError
        When a value is out of range, or an option is given to a method that has no use for it.
    """

    tickets: Tickets | None = None
    also_rows: Tickets | None = None
    frequencies: Mapping[int, int] = field(default_factory=dict[int, int])
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    folder: Path | None = None
    logs: Path | None = None
    fsdp_config: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __eq__(self, other: object) -> bool:
        """Compare by identity: tickets hold arrays."""
        return self is other

    def __hash__(self) -> int:
        """Hash by identity."""
        return id(self)

    def __post_init__(self) -> None:
        """Fill in the recommended rule, check ranges, and that method and options belong together."""
        if self.method == "partial" and self.tickets is None:
            object.__setattr__(self, "by", self.by or RECOMMENDED_RULE)
            object.__setattr__(self, "size", RECOMMENDED_SIZE if self.size is None else self.size)
        super().__post_init__()
        if self.layers is not None and self.kind != "full":
            raise UserError(f"`layers` is for full tuning, not for {self.method}")
        if self.side != "input" and self.kind != "rows":
            raise UserError(f"`side` is for methods that train rows, not for {self.method}")
        if self.quantize is not None and self.kind == "full":
            raise UserError("full tuning trains the body, which therefore cannot be quantised: leave `quantize` out")
        self._check_rows()
        self._check_tokens()

    def _check_rows(self) -> None:
        if self.by is not None:
            self._check_rule(self.by)
        if self.size is not None and (
            self.size < 1 or (self.by is None and self.method not in (*SIZED_METHODS, "frozen"))
        ):
            sized = ", ".join(SIZED_METHODS)
            raise UserError(f"`size` is 1 or more, and for {sized}, frozen and partial with `by`, not {self.method}")
        if self.method in SIZED_METHODS and self.size is None and self.tickets is None:
            raise UserError(f"{self.method} tuning needs `size`, the number of rows, or `tickets` to take their number")
        if self.method == "frozen" and self.tickets is None:
            raise UserError(f"{self.method} tuning needs `tickets`: take them from a scan first")
        if self.method == "frequency" and not self.frequencies:
            raise UserError(
                "frequency tuning needs a text of the target language to count tokens in: give `target_text`"
            )

    def _check_tokens(self) -> None:
        if self.method == "new-tokens":
            self._check_new_tokens()
            return
        given = [name for name in OF_NEW_TOKENS if getattr(self, name) is not None]
        given += [] if self.init == "auto" else ["init"]
        if given:
            raise UserError(f"`{given[0]}` is for new-tokens tuning, not for {self.method}: leave it out")
        if self.tokens != "auto" and self.method not in PROMPTS:
            raise UserError(f"`tokens` is for {', '.join(PROMPTS)} and new-tokens tuning, not for {self.method}")
        if self.tokens != "auto" and not (re.fullmatch("[0-9]{1,9}", self.tokens) and int(self.tokens)):
            raise UserError(f"`tokens` is {shortened(self.tokens)}, but must be a whole number of 1 or more, or auto")
        if self.method == "token-prompt" and self.side != "input":
            raise UserError("a token prompt is read on the input side, where its rows are: leave `side` out")

    def _check_new_tokens(self) -> None:
        if self.init not in INITS:
            raise UserError(f"`init` is {shortened(self.init)}, but must be one of {', '.join(INITS)}")
        if self.count is not None and self.tokens != "auto":
            raise UserError("`count` is how many pieces `tokens=auto` finds: leave it out, or leave `tokens` out")

    def _check_rule(self, by: str) -> None:
        if by not in TEXT_RULES:
            raise UserError(
                f"`by` is {by}, but must be one of {', '.join(TEXT_RULES)}. Other rules need a tuning first: give `tickets` "
                "that select wrote"
            )
        if self.method != "partial":
            raise UserError(f"`by` is for partial tuning, not for {self.method}: leave it out")
        if self.tickets is not None:
            raise UserError("`tickets` and `by` both say which rows are trained: give one of them")
        if self.measures and self.side != "input":
            raise UserError(
                f"{by} is measured for rows of the input embedding: leave `side` out, or choose another rule"
            )

    @property
    def measures(self) -> bool:
        """Whether the rows are chosen by a pass over the text with the original model."""
        return self.by in MEASURED

    @property
    def kind(self) -> str:
        """``rows``, ``full`` or ``adapter``."""
        return method_named(self.method).kind

    @property
    def quantization(self) -> str | None:
        """Kind of the quantised body, or None."""
        return "nf4" if self.method == "qlora" else self.quantize

    def train_config(self, rates: Mapping[str, float]) -> TrainConfig:
        """Return the settings of the training as it runs.

        Defaults of the method are filled in, embed tuning's own learning rate and epochs take their place, and gradient
        checkpointing switches the shared prefix off. So does sharding: each layer is gathered for one call at a time.

        Parameters
        ----------
        rates
            Learning rate and epochs of the method (`default_rates`).

        Raises
        ------
        UserError
            When a setting is not known or out of range.
        """
        given = {key: value for key, value in self.settings.items() if value is not None}
        values: dict[str, Any] = {**rates, **given}
        check_names("tune", values, [item.name for item in fields(TrainConfig)])
        config = TrainConfig(**values)
        embed = self.method == "embed"
        return replace(
            config,
            learning_rate=(config.embed_learning_rate if embed else None) or config.learning_rate,
            epochs=(config.embed_epochs if embed else None) or config.epochs,
            embed_learning_rate=None,
            embed_epochs=None,
            share_prefix=config.share_prefix and not (config.gradient_checkpointing or self.fsdp),
        )


def method_named(name: str) -> Method:
    """Return what a method is.

    Raises
    ------
    UserError
        When there is no such method.
    """
    if name not in METHODS:
        raise UserError(f"method {name} is not known; the methods are {', '.join(METHODS)}")
    return METHODS[name]
