"""What n calibration units guarantee of the small model, whatever the models are; and the smallest set that keeps it.

Must never count positions of one sentence, nor sentences of one drawn document, as independent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ks_lottery.errors import UserError
from ks_lottery.stats.risk import (
    binomial_pvalue,
    clopper_pearson_upper,
    fixed_sequence,
    hoeffding_bentkus_pvalue,
    hoeffding_bentkus_upper,
    smallest_n,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from ks_lottery.corpus.pool import Pool

Kind = Literal["any", "share"]
"""Loss of a sentence: 1 if ``any`` of its positions is wrong, or the ``share`` of them that is."""

METHODS: dict[Kind, str] = {"any": "Clopper-Pearson", "share": "Hoeffding-Bentkus"}

MEANING = (
    "This is a guarantee: it rests on the random draw alone and assumes nothing of the models, unlike the bound of "
    "theorem 2."
)

_CLAIMS: dict[str, str] = {
    "all_agree": "with probability at least {lower} the small model answers every position of {one} like the tuned one",
    "agreement": "the small model answers on average at least {lower} of the positions of {one} like the tuned one",
    "accuracy": "the small model answers on average at least {lower} of the positions of {one} as the reference has them",
}

_ONE = {"sentence": "a sentence drawn at random", "document": "a sentence of a document, both drawn at random,"}

_LARGEST_DELTA = 0.25
"""A yes/no bound asked for with a larger delta is computed with this one: see `guarantee`."""


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
        claim = _CLAIMS[self.bounded].format(lower=_down(self.lower), one=_ONE[self.unit])
        return f"{_over(self.delta, self.n, self.pool)}, {claim}. {MEANING}"

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name, with the statement."""
        names = ("bounded", "method", "lower", "observed", "n", "unit", "delta", "seed")
        return {
            **{name: getattr(self, name) for name in names},
            "pool": self.pool.as_dict(),
            "statement": self.statement,
        }


@dataclass(frozen=True)
class Choice:
    """The smallest ticket set whose loss was shown to be at most epsilon, by Learn then Test.

    Parameters
    ----------
    epsilon, delta
        Loss asked for, and the probability that the chosen set's exceeds it.
    kind
        ``any``: share of sentences in which any position is answered differently (exact binomial test). ``share``: mean
        share of such positions of a sentence (Hoeffding-Bentkus).
    n
        Units of calibration.
    sizes, observed, pvalues
        Of each set, in the order of testing: tickets, loss in the calibration text, p-value of "its loss exceeds epsilon".
    passed
        How many sets passed before the first that did not.
    pool
        What calibration was drawn from.
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
        if self.chosen is None:
            return (
                f"No ticket set was chosen: that of the largest one, {self.sizes[0]:,} tickets, loses at most "
                f"{self.epsilon:g} of the agreement with the tuned model could not be shown with {self.n:,} {self.pool.unit}s "
                f"at delta {self.delta:g} (it lost {self.observed[0]:.4f} of it there)."
            )
        one = _ONE[self.pool.unit].rstrip(",")
        what = "some position of" if self.kind == "any" else "on average a share of the positions of"
        more = "with probability at most" if self.kind == "any" else "of at most"
        return (
            f"{_over(self.delta, self.n, self.pool)}, the small model with the chosen {self.size:,} tickets answers {what} "
            f"{one} unlike the tuned one, {more} {self.epsilon:g}. {MEANING}"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name, with what was chosen and the statement."""
        names = ("epsilon", "delta", "kind", "n", "passed", "chosen", "size")
        return {
            **{name: getattr(self, name) for name in names},
            "method": f"Learn then Test, fixed sequence, {METHODS[self.kind]}",
            **{name: list(getattr(self, name)) for name in ("sizes", "observed", "pvalues")},
            "pool": self.pool.as_dict(),
            "statement": self.statement,
        }


def unit_losses(
    wrong: npt.ArrayLike,
    sentence: npt.ArrayLike,
    *,
    kind: Kind,
    documents: Sequence[str | int] | None = None,
    seed: int = 0,
) -> npt.NDArray[np.float64]:
    """Return one loss for each unit that was drawn: of each sentence, or of each document.

    Parameters
    ----------
    wrong
        Whether a position counts against the model, shape (N,).
    sentence
        Index of each position's sentence, at least 0, shape (N,). A sentence without positions is left out.
    kind
        ``any`` or ``share``.
    documents
        Document of each sentence, by its index; None where sentences were drawn. A document's share is the mean over its
        sentences; for ``any`` one sentence is drawn from each document, so that the loss stays 0 or 1 and has the same
        mean: that of a sentence drawn at random from a document drawn at random.
    seed
        Seed of that draw; the same for every model that is compared.

    Returns
    -------
    numpy.ndarray
        Losses in [0, 1], shape (n,), in the order of the sentences' indices, or of the documents' first sentences.

    Raises
    ------
    ValueError
        If the shapes differ, or a sentence has no document.
    """
    bad, index = np.asarray(wrong, dtype=bool), np.asarray(sentence, dtype=np.int64)
    if bad.ndim != 1 or bad.shape != index.shape:
        raise ValueError(
            f"positions and sentences must have one shape (N,), but they have {bad.shape} and {index.shape}"
        )
    if not len(bad):
        return np.zeros(0)
    total = np.bincount(index)
    there = np.flatnonzero(total)
    share = np.bincount(index, weights=bad)[there] / total[there]
    losses = share if kind == "share" else (share > 0.0).astype(np.float64)
    if documents is None:
        return losses
    if len(documents) <= there[-1]:
        raise ValueError(f"{len(documents)} documents are given, but sentence {there[-1]} needs its own")
    order: dict[str | int, int] = {}
    group = np.array([order.setdefault(documents[i], len(order)) for i in there])
    sizes = np.bincount(group)
    if kind == "share":
        return np.bincount(group, weights=losses) / sizes
    generator = np.random.Generator(np.random.PCG64(seed))
    picked = generator.integers(0, sizes)
    starts = np.cumsum(sizes) - sizes
    return losses[np.argsort(group, kind="stable")[starts + picked]]


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
    _check_asked("delta", delta)
    right = {"all_agree": agree, "agreement": agree, "accuracy": correct}
    grouped = _documents_of(pool, documents)
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


def choose(
    losses: Sequence[npt.ArrayLike],
    sizes: Sequence[int],
    epsilon: float,
    delta: float,
    *,
    pool: Pool,
    kind: Kind = "share",
) -> Choice:
    """Choose the smallest of nested ticket sets whose loss is at most epsilon with probability 1 - delta.

    Learn then Test (Angelopoulos et al. 2021) with fixed-sequence testing: from the largest set to the smallest, each "its
    loss exceeds epsilon" is tested at delta, and the first that is not rejected ends it. Every set before it, and so the
    chosen one, has a loss of at most epsilon, all at once with probability 1 - delta. That needs the sets and their order
    fixed without the calibration text, and nothing else of how their losses depend on each other.

    What holds of the chosen set is epsilon. A bound of `guarantee` from the same calibration text is not valid for it.

    Parameters
    ----------
    losses
        For each set, largest first: the loss of each calibration unit, in [0, 1], shape (n,), as `unit_losses` makes them.
    sizes
        Tickets of each set, falling, as `nested_sizes` returns them.
    epsilon, delta
        In (0, 1).
    pool
        What the calibration text was drawn from.
    kind
        Of the losses: ``any`` is 0 or 1 and is tested by the exact binomial test, ``share`` by Hoeffding-Bentkus. To be
        fixed beforehand, not by looking at the losses.

    Raises
    ------
    UserError
        When epsilon or delta is out of range, or n is too small to show epsilon even without any loss.
    ValueError
        If there are no sets, sizes do not fall, or losses are not as above.
    """
    _check_asked("epsilon", epsilon)
    _check_asked("delta", delta)
    if not sizes or any(later >= size for size, later in zip(sizes, sizes[1:], strict=False)):
        raise ValueError(f"ticket sets are tested from the largest to the smallest, but their sizes are {list(sizes)}")
    if len({np.shape(loss) for loss in losses}) != 1 or len(losses) != len(sizes) or np.ndim(losses[0]) != 1:
        raise ValueError("each ticket set needs its losses, of the same units")
    table = np.stack([np.asarray(loss, dtype=np.float64) for loss in losses])
    if not ((table >= 0.0) & (table <= 1.0)).all() or (kind == "any" and ((table > 0.0) & (table < 1.0)).any()):
        raise ValueError(f"losses of kind {kind!r} must be {'0 or 1' if kind == 'any' else 'in [0, 1]'}")
    n = table.shape[1]
    level = min(delta, _LARGEST_DELTA) if kind == "any" else delta
    needed = smallest_n(epsilon, level)
    if n < needed:
        raise UserError(
            f"{n:,} calibration {pool.unit}s cannot show a loss of at most {epsilon:g} at delta {delta:g} even if none has "
            f"any loss: {needed:,} are needed, or a larger epsilon or delta"
        )
    sums = table.sum(axis=1)
    if kind == "any":
        pvalues = np.where(_nothing_to_claim(sums, n), 1.0, binomial_pvalue(sums, n, epsilon))
    else:
        pvalues = hoeffding_bentkus_pvalue(sums, n, epsilon)
    passed = len(fixed_sequence(pvalues, level))
    counts = tuple(int(size) for size in sizes)
    return Choice(epsilon, delta, kind, n, counts, tuple((sums / n).tolist()), tuple(pvalues.tolist()), passed, pool)


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


def _documents_of(pool: Pool, documents: Sequence[str | int] | None) -> Sequence[str | int] | None:
    """Return the documents where they are what was drawn."""
    if pool.unit == "sentence":
        return None
    if documents is None:
        raise ValueError("whole documents were drawn, so the document of each sentence must be given")
    return documents


def _any_upper(losses: npt.NDArray[np.float64], delta: float) -> float:
    failures, n = losses.sum(), len(losses)
    if _nothing_to_claim(failures, n):
        return 1.0
    return float(clopper_pearson_upper(failures, n, min(delta, _LARGEST_DELTA)))


def _nothing_to_claim(failures: npt.ArrayLike, n: int) -> npt.NDArray[np.bool_]:
    """Say whether so many units failed that the binomial bound need not hold without replacement: see `guarantee`."""
    return (np.asarray(failures) >= n - 1) & (n > 1)


def _over(delta: float, n: int, pool: Pool) -> str:
    """Say with which probability, over which draw, and of what."""
    left = pool.drawn - n
    silent = f" (of those that have a position to count: {left:,} have none)" if left > 0 else ""
    return f"With probability at least {1.0 - delta:g} over the draw of {n:,} {pool.unit}s from {pool.name}{silent}"


def _down(value: float) -> str:
    """Return four digits that are not above the value."""
    return f"{math.floor(value * 1e4) / 1e4:.4f}"


def _check_asked(name: str, value: float) -> None:
    if not 0.0 < value < 1.0:
        raise UserError(f"{name} is {value:g}, but must be above 0 and below 1")
