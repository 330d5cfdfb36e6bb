"""What n calibration units guarantee of the small model, whatever the models are.

Must never be asked of a model that was chosen by the same calibration text: what holds of that one is said by `choice`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_lottery.certification.units import (
    LARGEST_DELTA,
    MEANING,
    METHODS,
    ONE,
    Kind,
    check_asked,
    drawn_documents,
    nothing_to_claim,
    over_the_draw,
    unit_losses,
)
from ks_lottery.errors import UserError
from ks_lottery.stats.risk import clopper_pearson_upper, hoeffding_bentkus_upper

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from ks_lottery.certification.pool import Pool

_CLAIMS: dict[str, str] = {
    "all_agree": "with probability at least {lower} the small model answers every position of {one} like the tuned one",
    "agreement": "the small model answers on average at least {lower} of the positions of {one} like the tuned one",
    "accuracy": "the small model answers on average at least {lower} of the positions of {one} as the reference has them",
}


@dataclass(frozen=True)
class Guarantee:
    """A lower bound that fails with probability at most delta over the draw of the calibration text.

    Parameters
    ----------
    bounded
        ``all_agree``: share of sentences whose positions `small` all answers like `tuned`. ``agreement``: mean share of
        positions of a sentence that it answers like `tuned`. ``accuracy``: the same, like the reference.
    method
        Clopper-Pearson or Hoeffding-Bentkus.
    lower, observed
        The bound, and the same figure in the calibration text.
    n
        Units that were drawn and count.
    delta
        Probability that this bound, taken alone, fails.
    pool
        What calibration was drawn from: what the bound speaks of.
    seed
        Seed by which one sentence of each drawn document was taken, where that was done.
    """

    bounded: str
    method: str
    lower: float
    observed: float
    n: int
    delta: float
    pool: Pool
    seed: int | None = None

    @property
    def unit(self) -> str:
        """What was drawn, and what n counts."""
        return self.pool.unit

    @property
    def statement(self) -> str:
        """What holds, with which probability, over what."""
        claim = _CLAIMS[self.bounded].format(lower=_down(self.lower), one=ONE[self.unit])
        return f"{over_the_draw(self.delta, self.n, self.pool)}, {claim}. {MEANING}"

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name, with the statement."""
        names = ("bounded", "method", "lower", "observed", "n", "unit", "delta", "seed")
        return {
            **{name: getattr(self, name) for name in names},
            "pool": self.pool.as_dict(),
            "statement": self.statement,
        }


def guarantee(
    agree: npt.ArrayLike,
    correct: npt.ArrayLike,
    sentence: npt.ArrayLike,
    *,
    delta: float,
    documents: Sequence[str | int] | None = None,
    pool: Pool,
    seed: int = 0,
) -> tuple[Guarantee, ...]:
    """Bound the agreement of the small model with the tuned one, and its accuracy, from below.

    Each bound fails with probability at most delta, taken alone, over the draw of the calibration text. It does not hold
    for a model that was chosen by the same calibration text: see `choose`.

    Parameters
    ----------
    agree, correct
        Whether `small` answers a position like `tuned`, and like the reference, shape (N,).
    sentence
        Index of each position's sentence, shape (N,).
    delta
        In (0, 1).
    documents
        Document of each sentence, by its index; used, and needed, where the pool drew whole documents.
    pool
        What the calibration text was drawn from.
    seed
        Where documents were drawn: by which one sentence of each is taken for the yes/no bound.

    Returns
    -------
    tuple of Guarantee
        ``all_agree``, ``agreement``, ``accuracy``.

    Raises
    ------
    UserError
        When there is no calibration sentence or delta is out of range.
    ValueError
        If the shapes differ, or documents were drawn and are not given.

    Notes
    -----
    What is exchangeable are the units that were drawn, sentences or documents; positions of a sentence, and sentences of
    a drawn document, may depend on each other in any way, since each unit enters with one number.

    The units are a random part of a finite pool, drawn without replacement, and the bounds speak of the mean over the
    whole pool; the rest of it, the text reported on, is measured outright. Units drawn independently, such as a pool that
    is itself a sample, are the limit of a large pool. Why the bounds hold in the finite case too:

    - Hoeffding-Bentkus: both parts bound the mean of a convex function of the sum of losses, and such a mean is not larger
      without replacement than with it (Hoeffding 1963, theorem 4 in section 6).
    - Clopper-Pearson: the number of failures is distributed as a sum of n independent yes/no trials of unequal chances, of
      the same mean np (Vatutin & Mikhailov 1982: the generating function has real zeros only; with one sentence drawn
      from each document too, as an elementary symmetric polynomial of linear terms). For such sums P(S <= k) is at most
      the binomial's for k <= np - 1 (Hoeffding 1956). With delta at most 1/4 the binomial's lower quantile lies below
      that, except where p > 1 - 1/n; there the bound could fail a little too often, so that nothing is claimed when all
      units, or all but one, failed, and a delta above 1/4 is taken for 1/4. The tests enumerate small pools.
    """
    check_asked("delta", delta)
    right = {"all_agree": agree, "agreement": agree, "accuracy": correct}
    grouped = drawn_documents(pool, documents)
    found: list[Guarantee] = []
    for bounded, answers in right.items():
        kind: Kind = "any" if bounded == "all_agree" else "share"
        losses = unit_losses(~np.asarray(answers, dtype=bool), sentence, kind=kind, documents=grouped, seed=seed)
        if not len(losses):
            raise UserError(f"{pool.name}: there is no calibration sentence with a position to count: give more text")
        upper = (
            _any_upper(losses, delta)
            if kind == "any"
            else float(hoeffding_bentkus_upper(losses.sum(), len(losses), delta))
        )
        drawn = seed if kind == "any" and grouped is not None else None
        observed = 1.0 - float(losses.mean())
        found.append(Guarantee(bounded, METHODS[kind], 1.0 - upper, observed, len(losses), delta, pool, drawn))
    return tuple(found)


def _any_upper(losses: npt.NDArray[np.float64], delta: float) -> float:
    failures, n = losses.sum(), len(losses)
    if nothing_to_claim(failures, n):
        return 1.0
    return float(clopper_pearson_upper(failures, n, min(delta, LARGEST_DELTA)))


def _down(value: float) -> str:
    """Return four digits that are not above the value."""
    return f"{math.floor(value * 1e4) / 1e4:.4f}"
