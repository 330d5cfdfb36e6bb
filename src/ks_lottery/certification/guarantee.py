"""What n calibration units guarantee of the small model, whatever the models are.

Must never be asked of a model that was chosen by the same calibration text: what holds of that one is said by `choice`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_lottery.certification.bounds import FINITE, Bounded, Bounding, method_of, upper_loss
from ks_lottery.certification.units import (
    AVERAGE,
    OF_TUNING,
    SENTENCES,
    Kind,
    Wording,
    check_asked,
    check_positions,
    counted_words,
    drawn_documents,
    over_the_draw,
    unit_losses,
)
from ks_lottery.errors import UserError
from ks_lottery.report.forms import percent_down

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from ks_lottery.certification.pool import Pool

_CLAIMS: dict[str, str] = {
    "all_agree": "{small} agrees with {tuned} at {every} in at least {lower} of {sentences}",
    "agreement": "{small} agrees with {tuned} in at least {lower} of {the} {average}",
    "accuracy": "{small} agrees with {reference} in at least {lower} of {the} {average}",
    "accuracy_change": "the share of {the} {average}, in which {small} agrees with {reference} is at most {points} percentage "
    "points below that of {tuned}",
    "generated": "{small} {generates} {tuned} for at least {lower} of {sentences}",
}
_GAIN = (
    "the share of {the} {average}, in which {small} agrees with {reference} is at least {points} percentage points above that "
    "of {tuned}"
)


@dataclass(frozen=True)
class Guarantee:
    """A lower bound that fails with probability at most delta over the draw of the calibration text.

    Parameters
    ----------
    bounded
        ``all_agree``: share of sentences whose counted positions `small` all answers like `tuned`. ``agreement``: mean share
        of counted positions of a sentence that it answers like `tuned`. ``accuracy``: the same, like the reference.
        ``accuracy_change``: that share less the one that `tuned` answers like the reference, in [-1, 1]. ``generated``: share
        of sentences for which both generate the same.
    method
        Name of the bound; see `method_of`.
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
    positions
        How many first positions of a sentence count; None for all.
    words
        What the statement calls the models.
    """

    bounded: str
    method: str
    lower: float
    observed: float
    n: int
    delta: float
    pool: Pool
    seed: int | None = None
    positions: int | None = None
    words: Wording = OF_TUNING

    @property
    def unit(self) -> str:
        """What was drawn, and what n counts."""
        return self.pool.unit

    @property
    def statement(self) -> str:
        """What holds, with which probability, over what."""
        return f"{over_the_draw(self.delta, self.n, self.pool)}, {self.claim}. {self.words.meaning}"

    @property
    def claim(self) -> str:
        """What holds."""
        gains = self.bounded == "accuracy_change" and self.lower >= 0
        return (_GAIN if gains else _CLAIMS[self.bounded]).format(
            small=self.words.small,
            tuned=self.words.tuned,
            reference=self.words.reference,
            lower=percent_down(self.lower),
            points=percent_down(self.lower).strip("-%"),
            generates=self.words.generates,
            sentences=SENTENCES[self.unit],
            average=AVERAGE[self.unit],
            **counted_words(self.positions),
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name, with the statement."""
        names = ("bounded", "method", "lower", "observed", "n", "unit", "delta", "seed", "positions")
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
    order: Sequence[int] | None = None,
    positions: int | None = None,
    bounding: Bounding = "finite",
    seed: int = 0,
    tuned_correct: npt.ArrayLike | None = None,
    generated: npt.ArrayLike | None = None,
    words: Wording = OF_TUNING,
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
    order
        When each sentence was drawn, by its index (`unit_losses`); needed where the bound depends on it (betting).
    positions
        How many first positions of each sentence are given; None for all. The statement names them.
    bounding
        ``finite``: bounds that know the size of the pool, where it is known. ``independent``: bounds that do not. To be fixed
        before the calibration text is looked at.
    seed
        Where documents were drawn: by which one sentence of each is taken for the yes/no bounds.
    tuned_correct
        Whether `tuned` answers a position like the reference, shape (N,); with it the change of accuracy is bounded, paired by
        sentence. None (the default) bounds none.
    generated
        Whether both models generate the same for a sentence, by its index; None (the default) bounds none.
    words
        What the statements call the models.

    Returns
    -------
    tuple of Guarantee
        ``all_agree``, ``agreement``, ``accuracy``; then ``accuracy_change`` and ``generated`` where they are asked for.

    Raises
    ------
    UserError
        When there is no calibration sentence or delta is out of range.
    ValueError
        If the shapes differ, documents were drawn and are not given, the order is needed and not given, or a sentence has more
        than `positions`.

    Notes
    -----
    What is exchangeable are the units that were drawn, sentences or documents; positions of a sentence, and sentences of
    a drawn document, may depend on each other in any way, since each unit enters with one number.

    The units are a random part of a finite pool, drawn without replacement, and the bounds speak of the mean over the
    whole pool; the rest of it, the text reported on, is measured outright. Units drawn independently, such as a pool that
    is itself a sample, are the limit of a large pool. Where the number of units in the pool is known:

    - Hypergeometric: the exact distribution of the number of failures, for sentences.
    - Betting without replacement: `ks_lottery.stats.betting.betting_pvalue`.

    Where it is not, bounds that hold without replacement from a pool of any size:

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
    check_positions(sentence, positions)
    if order is None and method_of("share", pool, bounding) == FINITE["share"]:
        raise ValueError("the bound depends on the order of the draw, so the order must be given")
    grouped = drawn_documents(pool, documents)

    def losses_of(right: npt.ArrayLike, kind: Kind, index: npt.ArrayLike = sentence) -> npt.NDArray[np.float64]:
        wrong = ~np.asarray(right, dtype=bool)
        return unit_losses(wrong, index, kind=kind, documents=grouped, order=order, seed=seed)

    losses: dict[str, tuple[Bounded, npt.NDArray[np.float64]]] = {
        "all_agree": ("any", losses_of(agree, "any")),
        "agreement": ("share", losses_of(agree, "share")),
        "accuracy": ("share", losses_of(correct, "share")),
    }
    if tuned_correct is not None:
        losses["accuracy_change"] = "paired", losses["accuracy"][1] - losses_of(tuned_correct, "share")
    if generated is not None:
        losses["generated"] = "any", losses_of(generated, "any", np.arange(np.size(generated)))
    if any(not len(each) for _, each in losses.values()):
        raise UserError(f"{pool.name}: no calibration sentence has a position to count: give more text")
    return tuple(
        Guarantee(
            bounded=bounded,
            method=method_of(kind, pool, bounding),
            lower=(0.0 if kind == "paired" else 1.0) - upper_loss(each, kind, pool, delta, bounding),
            observed=(0.0 if kind == "paired" else 1.0) - float(each.mean()),
            n=len(each),
            delta=delta,
            pool=pool,
            seed=seed if kind == "any" and grouped is not None else None,
            positions=positions,
            words=words,
        )
        for bounded, (kind, each) in losses.items()
    )
