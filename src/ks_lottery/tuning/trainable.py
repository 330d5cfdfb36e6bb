"""A model with something in it that trains, how far its training is, and the result."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from ks_lottery.report.section import Section
from ks_lottery.store.files import write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from transformers import TrainerCallback

    from ks_lottery.models.language_model import LabelledLanguageModel
    from ks_lottery.tickets.span_counts import SpanCounts
    from ks_lottery.tickets.tickets import Tickets


TOKENIZER = "tokenizer"
"""Folder of a tokenizer with new tokens."""


class Product(Protocol):
    """What a method makes: a row patch, an adapter or a tuned model."""

    @property
    def parameters(self) -> int:
        """Number of trained parameters."""
        ...

    def save(self, folder: str | Path) -> Path:
        """Write it into a folder, and return the folder."""
        ...


ProductT = TypeVar("ProductT", bound=Product)


@dataclass(frozen=True, kw_only=True)
class Trainable(Generic[ProductT]):
    """A model with something in it that trains: the parameters that ask for a gradient.

    Parameters
    ----------
    collect
        Takes what was trained out of the model; every process calls it.
    autocast
        Compute in bfloat16 over float32 parameters.
    callbacks
        The Trainer's own kind, that the method needs.
    """

    model: LabelledLanguageModel
    collect: Callable[[], ProductT]
    autocast: bool = False
    callbacks: Sequence[TrainerCallback] = ()


@dataclass(frozen=True, kw_only=True)
class FixedLoss:
    """Mean loss on the same training examples before and after, in nats a token, and the number of these examples."""

    examples: int
    before: float
    after: float

    def __str__(self) -> str:
        return f"loss on {self.examples} of the training examples {self.before:.3f} before, {self.after:.3f} after"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TuneResult(Generic[ProductT]):
    """What a tuning made, and the losses on the way.

    Parameters
    ----------
    product
        A `RowPatch`, an `Adapter` or a `TunedModel`.
    rows
        The rows that were trained and the rule that chose them; None for methods that train something else.
    span_counts
        How often each token stands in instruction, source and target of the training text, where rows were trained and the
        examples know their source.
    losses
        Step and mean loss of the step, nats a token.
    validation
        Step and loss on the validation text.
    best_step
        The step whose parameters are in the product, where early stopping chose one; else the last.
    fixed
        The loss on one fixed set of training examples, before any step and with the parameters that the product has: the
        losses of steps are single batches, which differ. None where nothing was trained, or the model is sharded.
    tokenizer
        The tokenizer with the tokens that were added to the base's; None where there are none. It is saved beside the product,
        for other programs; the product knows these tokens itself.
    """

    product: ProductT
    rows: Tickets | None = None
    span_counts: SpanCounts | None = None
    losses: tuple[tuple[int, float], ...] = ()
    validation: tuple[tuple[int, float], ...] = ()
    best_step: int = 0
    fixed: FixedLoss | None = None
    tokenizer: Any = None

    def __repr__(self) -> str:
        return f"TuneResult({self.product!r}, {len(self.losses):,} losses)"

    def save(self, folder: str | Path, tokens: Sequence[str] | None = None) -> Path:
        """Write the product, its rows as ``rows.json``, and the losses as ``training.json`` into a folder, and return it.

        Where rows were trained, ``spans.parquet`` says where each token occurs in the training text (`SpanCounts`).

        Parameters
        ----------
        tokens
            Each row's token, for people who read ``rows.json``.
        """
        folder = self.product.save(folder)
        if self.rows is not None:
            self.rows.save(folder / "rows.json", tokens)
        if self.span_counts is not None:
            self.span_counts.save(folder)
        losses, validation = (
            [{"step": step, "loss": loss} for step, loss in pairs] for pairs in (self.losses, self.validation)
        )
        content = {
            "parameters": self.product.parameters,
            "rows": None if self.rows is None else len(self.rows),
            "losses": losses,
            "validation": validation,
            "kept": self.best_step,
            "fixed": None if self.fixed is None else asdict(self.fixed),
        }
        write_json(folder / "training.json", content)
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(str(folder / TOKENIZER))
        return folder

    @property
    def losses_said(self) -> str:
        """End of a sentence: the loss before and after, as far as it was measured."""
        return "" if self.fixed is None else f"; {self.fixed}"

    def sections(self) -> list[Section]:
        """Return what was trained, with the loss before and after."""
        sentences = [f"{self.product.parameters:,} parameters trained{self.losses_said}"]
        if self.validation:
            step, loss = min(self.validation, key=lambda entry: entry[1])
            sentences.append(f"validation loss {loss:.3f} at best, at step {step}; kept: step {self.best_step}")
        return [Section(sentences=sentences)]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a training is: steps done, steps in all, input tokens seen (without padding), and the last loss."""

    step: int
    steps: int
    tokens: int
    loss: float | None
