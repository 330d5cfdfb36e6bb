"""From positions to one loss for each unit that was drawn at random, and what is said of such a draw.

Must never give a unit more than one loss: what it holds is dependent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from ks_lottery.certification.pool import Pool

Kind = Literal["any", "share"]
"""Loss of a sentence: 1 if ``any`` of its positions is wrong, or the ``share`` of them that is."""

METHODS: dict[Kind, str] = {"any": "Clopper-Pearson", "share": "Hoeffding-Bentkus"}
"""By which bound the mean of each kind of loss is tested."""

MEANING = (
    "This is a guarantee: it rests on the random draw alone and assumes nothing of the models, unlike the bound of "
    "theorem 2."
)

ONE = {"sentence": "a sentence drawn at random", "document": "a sentence of a document, both drawn at random,"}

LARGEST_DELTA = 0.25
"""A yes/no bound asked for with a larger delta is computed with this one: see `guarantee`."""


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
    there: list[int] = np.flatnonzero(total).tolist()
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
    # Another stream than that of a pool drawn with the same seed, of which this draw must not depend.
    generator = np.random.Generator(np.random.PCG64([seed, 1]))
    picked = generator.integers(0, sizes)
    starts = np.cumsum(sizes) - sizes
    return losses[np.argsort(group, kind="stable")[starts + picked]]


def drawn_documents(pool: Pool, documents: Sequence[str | int] | None) -> Sequence[str | int] | None:
    """Return the documents where they are what was drawn, else None.

    Raises
    ------
    ValueError
        When they were drawn and are not given.
    """
    if pool.unit == "sentence":
        return None
    if documents is None:
        raise ValueError("whole documents were drawn, so the document of each sentence must be given")
    return documents


def nothing_to_claim(failures: npt.ArrayLike, n: int) -> npt.NDArray[np.bool_]:
    """Say whether so many units failed that the binomial bound need not hold without replacement: see `guarantee`."""
    return (np.asarray(failures) >= n - 1) & (n > 1)


def over_the_draw(delta: float, n: int, pool: Pool) -> str:
    """Say with which probability, over which draw, and of what."""
    left = pool.drawn - n
    silent = f" (of those that have a position to count: {left:,} have none)" if left > 0 else ""
    return f"With probability at least {1.0 - delta:.12g} over the draw of {n:,} {pool.unit}s from {pool.name}{silent}"


def check_asked(name: str, value: float) -> None:
    """Refuse a probability that the user asked for, unless it is in (0, 1)."""
    if not 0.0 < value < 1.0:
        raise UserError(f"{name} is {value:g}, but must be above 0 and below 1")
