"""What a selector may look at, and how it says what is missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    from ks_lottery.checkpoint.attribution import Attribution
    from ks_lottery.corpus.batches import Example
    from ks_lottery.tickets.scan import Scan
    from ks_lottery.tickets.tickets import Tickets

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Basis:
    """What a selector may look at; what a selector does not need may be absent.

    Parameters
    ----------
    vocabulary
        Number V of rows.
    size
        Number of rows to select; with ``all-but-tickets``, of the first tickets that are excluded (None: all of them).
    seed
        Seed of a random draw.
    scan
        For the scores of a scan: ``ks`` and its rivals.
    alpha, interval
        For ``ks`` without a size: rows with p < alpha, or with p in [low, high).
    correction
        Of p for the number of rows, with alpha or interval.
    without
        Selector, one of `ks_lottery.config.choices.EXCLUSIONS`, all of whose rows are left out; None for none.
    tickets
        For ``tickets`` and ``all-but-tickets``.
    attribution
        What a tuning recorded or a pass measured, for ``lca``, ``gradient``, ``gradient-sum`` and ``gradient-adam``.
    gradients
        Measures the gradients of the original model over a text, in place of `attribution`. Called only by selectors that
        need them.
    frequencies
        For ``frequency``: count of each token in a text of the target language, by row.
    examples
        Returns the rendered training examples, for ``occurrence`` and ``template``. Called only by selectors that need them.
    reachable
        Returns the rows that training on the text can move, ascending. Called only by selectors that need them.
    """

    vocabulary: int
    size: int | None = None
    seed: int = 0
    scan: Scan | None = None
    alpha: float | None = None
    interval: tuple[float, float] | None = None
    correction: str = "none"
    without: str | None = None
    tickets: Tickets | None = None
    attribution: Attribution | None = None
    gradients: Callable[[], Attribution] | None = None
    frequencies: Mapping[int, int] | None = None
    examples: Callable[[], Sequence[Example]] | None = None
    reachable: Callable[[], npt.NDArray[np.int64]] | None = None


def need(by: str, value: _T | None, what: str) -> _T:
    """Return what a selector needs, or say that it is missing."""
    if value is None:
        raise UserError(f"selection by {by} needs {what}")
    return value


def check_size(by: str, size: int | None) -> int:
    """Return the number of rows of a selector that ranks or draws rows.

    Raises
    ------
    UserError
        When it is missing or below 0.
    """
    if size is None:
        raise UserError(f"rows ranked by {by} have no p-value: give `top_k`, the number of rows")
    if size < 0:
        raise UserError(f"top_k is {size}, but must be 0 or more")
    return size
