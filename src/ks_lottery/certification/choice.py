"""The smallest of nested ticket sets that keeps the agreement with the tuned model, by Learn then Test.

Must never look at the calibration text to order the sets, nor test on after the first failure.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_lottery.certification.bounds import Bounded, Bounding, level_of, loss_pvalues, method_of, units_to_show
from ks_lottery.certification.units import (
    AVERAGE,
    MEANING,
    SENTENCES,
    Kind,
    check_asked,
    counted_words,
    over_the_draw,
)
from ks_lottery.errors import UserError
from ks_lottery.report.forms import counted
from ks_lottery.stats.risk import fixed_sequence

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from ks_lottery.certification.pool import Pool

_CLAIMS: dict[Kind, str] = {
    "any": "the small model with the chosen {size:,} tickets differs from the tuned one at {any} in at most {epsilon} of "
    "{sentences}",
    "share": "the small model with the chosen {size:,} tickets differs from the tuned one in at most {epsilon} of {the} "
    "{average}",
}


@dataclass(frozen=True)
class Choice:
    """The smallest ticket set whose loss was shown to be at most epsilon, by Learn then Test.

    Parameters
    ----------
    epsilon, delta
        Loss asked for, and the probability that the chosen set's exceeds it.
    kind
        ``any``: share of sentences in which any counted position is answered differently. ``share``: mean share of such
        positions of a sentence.
    n
        Units of calibration.
    sizes, observed, pvalues
        Of each set, in the order of testing: tickets, loss in the calibration text, p-value of "its loss exceeds epsilon".
    passed
        How many sets passed before the first that did not.
    pool
        What calibration was drawn from.
    method
        Name of the bound that the p-values come from; see `method_of`.
    positions
        How many first positions of a sentence count; None for all.
    """

    epsilon: float
    delta: float
    kind: Kind
    n: int
    sizes: tuple[int, ...]
    observed: tuple[float, ...]
    pvalues: tuple[float, ...]
    passed: int
    pool: Pool
    method: str
    positions: int | None = None

    @property
    def chosen(self) -> int | None:
        """Index of the chosen set; None when none passed."""
        return self.passed - 1 if self.passed else None

    @property
    def size(self) -> int | None:
        """Tickets of the chosen set."""
        return None if self.chosen is None else self.sizes[self.chosen]

    @property
    def statement(self) -> str:
        """What was chosen and what holds of it."""
        if self.size is None:
            return (
                f"No ticket set was chosen: {counted(self.n, self.pool.unit)} of {self.pool.name} cannot prove, at "
                f"delta {self.delta:g}, a loss of at most {self.epsilon:g} over {counted_words(self.positions)['the']} of a "
                f"sentence, even for the largest set, {self.sizes[0]:,} tickets (its loss in these {self.pool.unit}s is "
                f"{self.observed[0]:.4f})."
            )
        claim = _CLAIMS[self.kind].format(
            size=self.size,
            epsilon=f"{self.epsilon:g}",
            sentences=SENTENCES[self.pool.unit],
            average=AVERAGE[self.pool.unit],
            **counted_words(self.positions),
        )
        return f"{over_the_draw(self.delta, self.n, self.pool)}, {claim}. {MEANING}"

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name, with what was chosen and the statement."""
        names = ("epsilon", "delta", "kind", "n", "passed", "chosen", "size", "positions")
        return {
            **{name: getattr(self, name) for name in names},
            "method": f"Learn then Test, fixed sequence, {self.method}",
            **{name: list(getattr(self, name)) for name in ("sizes", "observed", "pvalues")},
            "pool": self.pool.as_dict(),
            "statement": self.statement,
        }


def check_budget(
    n: int, epsilon: float, delta: float, *, pool: Pool, kind: Bounded = "share", bounding: Bounding = "finite"
) -> None:
    """Refuse a number n of units that cannot show epsilon even without any loss.

    Raises
    ------
    UserError
        It says how many are needed.
    """
    needed = units_to_show(epsilon, delta, kind, pool, bounding)
    if n < needed:
        raise UserError(
            f"{n:,} calibration {pool.unit}s are too few: even without any loss they cannot prove a loss below {epsilon:g} at "
            f"delta {delta:g}. {needed:,} are needed, or a larger epsilon or delta"
        )


def choose(
    losses: Sequence[npt.ArrayLike],
    sizes: Sequence[int],
    epsilon: float,
    delta: float,
    *,
    pool: Pool,
    kind: Kind = "share",
    positions: int | None = None,
    bounding: Bounding = "finite",
) -> Choice:
    """Choose the smallest of nested ticket sets whose loss is at most epsilon with probability 1 - delta.

    Learn then Test (Angelopoulos et al. 2021) with fixed-sequence testing: from the largest set to the smallest, each "its
    loss exceeds epsilon" is tested at delta, and the first that is not rejected ends it. Every set before it, and so the
    chosen one, has a loss of at most epsilon, all at once with probability 1 - delta. That needs the sets and their order
    fixed without the calibration text, and nothing else of how their losses depend on each other.

    What holds of the chosen set is epsilon. A bound of `guarantee` from the same calibration text need not hold for it.

    Parameters
    ----------
    losses
        For each set, largest first: the loss of each calibration unit, in [0, 1], shape (n,), in the order of the draw, as
        `unit_losses` makes them.
    sizes
        Tickets of each set, falling, as `nested_sizes` returns them.
    epsilon, delta
        In (0, 1).
    pool
        What the calibration text was drawn from.
    kind
        Of the losses: ``any`` is 0 or 1. To be fixed beforehand, not by looking at the losses.
    positions
        How many first positions of each sentence the losses count; None for all. The statement names them.
    bounding
        As for `guarantee`.

    Raises
    ------
    UserError
        When epsilon or delta is out of range, or n is too small to show epsilon even without any loss.
    ValueError
        If `sizes` is empty or does not fall, or `losses` has a wrong shape or a value out of range.
    """
    check_asked("epsilon", epsilon)
    check_asked("delta", delta)
    if not sizes or any(later >= size for size, later in pairwise(sizes)):
        raise ValueError(f"ticket sets are tested from the largest to the smallest, but their sizes are {list(sizes)}")
    if len(losses) != len(sizes):
        raise ValueError("each ticket set needs its losses, of the same units")
    tests = fixed_order(losses, epsilon, delta, pool=pool, kind=kind, bounding=bounding)
    return Choice(
        epsilon=epsilon, delta=delta, kind=kind, sizes=tuple(int(size) for size in sizes), positions=positions, pool=pool,
        **vars(tests),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class FixedOrder:
    """Tests of "its loss exceeds epsilon" for several models, in a fixed order.

    Parameters
    ----------
    n
        Units of calibration.
    observed, pvalues
        Of each model: mean loss of the units, and p-value.
    passed
        How many models passed before the first that did not.
    method
        Name of the bound that the p-values come from.
    """

    n: int
    observed: tuple[float, ...]
    pvalues: tuple[float, ...]
    passed: int
    method: str


def fixed_order(
    losses: Sequence[npt.ArrayLike],
    epsilon: float,
    delta: float,
    *,
    pool: Pool,
    kind: Bounded = "share",
    bounding: Bounding = "finite",
) -> FixedOrder:
    """Test models in the given order, each "its loss exceeds epsilon" at delta, until one fails: see `choose`.

    Parameters
    ----------
    losses
        Of each model, in the order of testing, which was fixed beforehand: one a unit, shape (n,), in the order of the draw; 0
        or 1 for ``any``, in [0, 1] for ``share``, in [-1, 1] for ``paired``.

    Raises
    ------
    UserError
        When epsilon or delta is out of range, or n is too small to show epsilon even without any loss.
    ValueError
        If `losses` is empty, or has a wrong shape or a value out of range.
    """
    check_asked("epsilon", epsilon)
    check_asked("delta", delta)
    if len({np.shape(loss) for loss in losses}) != 1 or np.ndim(losses[0]) != 1:
        raise ValueError("each ticket set needs its losses, of the same units")
    table = np.stack([np.asarray(loss, dtype=np.float64) for loss in losses])
    low = -1.0 if kind == "paired" else 0.0
    if not ((table >= low) & (table <= 1.0)).all() or (kind == "any" and ((table > 0.0) & (table < 1.0)).any()):
        raise ValueError(f"losses of kind {kind!r} must be {'0 or 1' if kind == 'any' else f'in [{low:g}, 1]'}")
    n = table.shape[1]
    check_budget(n, epsilon, delta, pool=pool, kind=kind, bounding=bounding)
    level = level_of(delta, kind, pool, bounding)
    pvalues = loss_pvalues(table, kind, pool, epsilon, level, bounding)
    return FixedOrder(
        n=n,
        observed=tuple((table.sum(axis=1) / n).tolist()),
        pvalues=tuple(pvalues.tolist()),
        passed=len(fixed_sequence(pvalues, level)),
        method=method_of(kind, pool, bounding),
    )


def nested_sizes(sets: Sequence[npt.ArrayLike]) -> tuple[int, ...]:
    """Return the sizes of ticket sets that are nested, each a proper part of the one before.

    Raises
    ------
    ValueError
        If they are not.

    Examples
    --------
    >>> nested_sizes([[4, 1, 7], [7, 4], []])
    (3, 2, 0)
    """
    rows = [set(np.asarray(ids).ravel().tolist()) for ids in sets]
    for number in range(1, len(rows)):
        if not rows[number] < rows[number - 1]:
            raise ValueError(f"ticket set {number + 1} of {len(rows)} is no proper part of the one before it")
    return tuple(len(ids) for ids in rows)
