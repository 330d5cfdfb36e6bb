"""The embedding methods of the paper: one idea, "train these rows and freeze the rest", with different rows.

Must never train anything itself: a method here is a choice of rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ks_lottery.config.choices import DEFAULT_MODEL, DEMO_RATE, METHODS, Method
from ks_lottery.corpus.batches import occurrences
from ks_lottery.errors import UserError
from ks_lottery.models.rows import trainable_rows
from ks_lottery.tickets.tickets import Tickets, select_by_frequency, select_by_occurrence, select_random

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from ks_lottery.checkpoint.patch import Side
    from ks_lottery.corpus.batches import Example
    from ks_lottery.models.load import LoadedModel


@dataclass(frozen=True)
class Choice:
    """What a method may choose rows from.

    Parameters
    ----------
    size
        Number of rows that are chosen; with `frozen`, of the first tickets that are frozen.
    frequencies
        Count of each token in a text of the target language, for `frequency`.
    """

    loaded: LoadedModel
    examples: Sequence[Example]
    tickets: Tickets | None
    size: int
    seed: int
    frequencies: Mapping[int, int] = field(default_factory=dict)
    side: Side = "input"

    def reachable(self) -> npt.NDArray[np.int64]:
        """Return the rows that training on the examples can move: on the output side every one, which the softmax reaches."""
        return trainable_rows([e.sequence for e in self.examples], self.loaded.lm, self.side)

    @property
    def vocabulary(self) -> int:
        """Number V of rows of the embedding."""
        return self.loaded.checkpoint.vocabulary


def _embed(choice: Choice) -> Tickets:
    return Tickets(choice.reachable(), {"selector": "reachable"})


def _needed(choice: Choice, method: str) -> Tickets:
    if choice.tickets is None:
        raise UserError(f"{method} tuning needs tickets: take them from a scan first")
    rows = choice.tickets.rows
    if len(rows) and int(rows.max()) >= choice.vocabulary:
        raise UserError(
            f"the tickets name row {int(rows.max())}, but {choice.loaded.checkpoint.name} has {choice.vocabulary:,} rows: "
            "give the tickets of this model"
        )
    return choice.tickets


def _frozen(choice: Choice) -> Tickets:
    """Freeze the first tickets and train the rest of what the text reaches (figure 5 of the paper)."""
    return _embed(choice) - _needed(choice, "frozen").head(choice.size)


def _random(choice: Choice) -> Tickets:
    every = np.arange(choice.vocabulary, dtype=np.int64)
    return select_random(every, choice.size, seed=choice.seed, reachable=False)


def _random_reachable(choice: Choice) -> Tickets:
    return select_random(choice.reachable(), choice.size, seed=choice.seed, reachable=True)


def _occurrence(choice: Choice) -> Tickets:
    return select_by_occurrence(occurrences(choice.examples), choice.reachable(), choice.size)


def _frequency(choice: Choice) -> Tickets:
    if not choice.frequencies:
        raise UserError("frequency tuning needs a text of the target language to count tokens in: give --corpus")
    return select_by_frequency(choice.frequencies, choice.vocabulary, choice.size)


ROWS: dict[str, Callable[[Choice], Tickets]] = {
    "embed": _embed,
    "partial": lambda choice: _needed(choice, "partial"),
    "frequency": _frequency,
    "occurrence": _occurrence,
    "random": _random,
    "random-reachable": _random_reachable,
    "frozen": _frozen,
}
"""Name of a method to the rows it trains."""

SIZED = ("frequency", "occurrence", "random", "random-reachable")
"""Methods that take a number of rows."""


def rows_of(method: str, choice: Choice) -> Tickets:
    """Return the rows that `method` trains.

    Raises
    ------
    UserError
        When the method is not known, or lacks what it needs.
    """
    if method not in ROWS:
        raise UserError(f"method {method} is not known; the methods are {', '.join(ROWS)}")
    return ROWS[method](choice)


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


def default_rates(name: str, model: str) -> dict[str, float]:
    """Return learning rate and epochs that a method has unless the user gives others.

    Parameters
    ----------
    model
        What the user called the model: with the embedded one, rows are trained at the demo's learning rate.
    """
    method = method_named(name)
    rate = DEMO_RATE if method.kind == "rows" and model == DEFAULT_MODEL else method.learning_rate
    return {"learning_rate": rate, "epochs": method.epochs}
