"""The embedding methods of the paper: one idea, "train these rows and freeze the rest", with different rows.

Must never train anything itself: a method here is a choice of rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ks_lottery.corpus.batches import occurrences
from ks_lottery.errors import UserError
from ks_lottery.models.rows import padding_row, reachable_rows
from ks_lottery.tickets import Tickets, select_by_occurrence, select_random

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    import numpy.typing as npt

    from ks_lottery.corpus.batches import Example
    from ks_lottery.models.load import LoadedModel


@dataclass(frozen=True)
class Choice:
    """What a method may choose rows from."""

    loaded: LoadedModel
    examples: Sequence[Example]
    tickets: Tickets | None
    size: int
    seed: int

    def reachable(self) -> npt.NDArray[np.int64]:
        """Return the rows that training on the examples can move."""
        return reachable_rows([e.sequence for e in self.examples], padding_row(self.loaded.lm))


def _embed(choice: Choice) -> Tickets:
    return Tickets(choice.reachable(), {"selector": "reachable"})


def _partial(choice: Choice) -> Tickets:
    if choice.tickets is None:
        raise UserError("partial tuning needs tickets: select them from a scan first")
    return choice.tickets


def _random(choice: Choice) -> Tickets:
    return select_random(choice.reachable(), choice.size, seed=choice.seed, reachable=True)


def _occurrence(choice: Choice) -> Tickets:
    return select_by_occurrence(occurrences(choice.examples), choice.reachable(), choice.size)


METHODS: dict[str, Callable[[Choice], Tickets]] = {
    "embed": _embed,
    "partial": _partial,
    "random": _random,
    "occurrence": _occurrence,
}
"""Name of a method to the rows it trains."""


def rows_of(method: str, choice: Choice) -> Tickets:
    """Return the rows that `method` trains.

    Raises
    ------
    UserError
        When the method is not known, or lacks what it needs.
    """
    if method not in METHODS:
        raise UserError(f"method {method} is not known; the methods are {', '.join(METHODS)}")
    return METHODS[method](choice)
