"""From positions to one loss for each unit that was drawn at random, and what is said of such a draw.

Must never give a unit more than one loss: what it holds is dependent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from ks_lottery.errors import UserError
from ks_lottery.report.forms import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from ks_lottery.certification.pool import Pool

Kind = Literal["any", "share"]
"""Loss of a sentence: 1 if ``any`` of its positions is wrong, or the ``share`` of them that is."""

MEANING = (
    "This is a guarantee: it needs only the random draw and makes no assumption about the models, unlike the bound of "
    "theorem 2."
)


@dataclass(frozen=True)
class Wording:
    """What statements call the two models, and what else they say.

    Parameters
    ----------
    small, tuned
        The model that a statement is about, and the one that it is compared with.
    reference
        What accuracy compares with: the text's own tokens.
    generates
        What the two do alike where they generate text; the name of the latter follows.
    meaning
        What the statement rests on, in a sentence.
    """

    small: str = "the small model"
    tuned: str = "the tuned one"
    reference: str = "the reference"
    generates: str = "generates the same as"
    meaning: str = MEANING


OF_TUNING = Wording()
"""How a certificate speaks: of a small model and the tuned one."""

SENTENCES = {"sentence": "the sentences", "document": "the sentences of a document, on average over the documents"}
"""What a share of sentences is a share of, by the unit that was drawn."""

AVERAGE = {
    "sentence": "of a sentence, on average",
    "document": "of a sentence, on average over the documents and the sentences of each",
}
"""What a share of positions is the mean of, by the unit that was drawn."""


def unit_losses(
    wrong: npt.ArrayLike,
    sentence: npt.ArrayLike,
    *,
    kind: Kind,
    documents: Sequence[str | int] | None = None,
    order: Sequence[int] | None = None,
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
    order
        When each sentence was drawn, by its index: numbers that rise with the draw. A document was drawn with the first of its
        sentences. None for the order of the sentences' indices.
    seed
        Seed of the draw of one sentence of each document; the same for every model that is compared.

    Returns
    -------
    numpy.ndarray
        Losses in [0, 1], shape (n,), in the order of the draw.

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
    drawn = np.arange(len(total)) if order is None else np.asarray(order, dtype=np.int64)
    if len(drawn) <= there[-1]:
        raise ValueError(f"the order of {len(drawn)} sentences is given, but sentence {there[-1]} needs its own")
    drawn = drawn[there]
    if documents is None:
        return losses[np.argsort(drawn, kind="stable")]
    if len(documents) <= there[-1]:
        raise ValueError(f"{len(documents)} documents are given, but sentence {there[-1]} needs its own")
    number: dict[str | int, int] = {}
    group = np.array([number.setdefault(documents[i], len(number)) for i in there])
    sizes = np.bincount(group)
    first = np.full(len(sizes), np.iinfo(np.int64).max)
    np.minimum.at(first, group, drawn)
    by_draw = np.argsort(first, kind="stable")
    if kind == "share":
        return (np.bincount(group, weights=losses) / sizes)[by_draw]
    # Another stream than that of a pool drawn with the same seed, of which this draw must not depend.
    generator = np.random.Generator(np.random.PCG64([seed, 1]))
    picked = generator.integers(0, sizes)
    starts = np.cumsum(sizes) - sizes
    return losses[np.argsort(group, kind="stable")[starts + picked]][by_draw]


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


def counted_words(positions: int | None) -> dict[str, str]:
    """Return how statements name the positions that count, the first so many or all: ``every``, ``any`` and ``the``."""
    if positions is None:
        return {"every": "every position", "any": "any position", "the": "the positions"}
    first = "the first position" if positions == 1 else f"the first {positions:,} positions"
    several = ("", "") if positions == 1 else ("each of ", "any of ")
    return {"every": several[0] + first, "any": several[1] + first, "the": first}


def check_positions(sentence: npt.ArrayLike, positions: int | None) -> None:
    """Refuse answers at more positions of a sentence than a statement is to name.

    Raises
    ------
    ValueError
        When a sentence has more than `positions`.
    """
    index = np.asarray(sentence, dtype=np.int64)
    most = int(np.bincount(index).max()) if len(index) else 0
    if positions is not None and most > positions:
        raise ValueError(f"a sentence has {most} positions, but the first {positions} are to count")


def over_the_draw(delta: float, n: int, pool: Pool) -> str:
    """Say with which confidence, over which draw, and of what."""
    silent_units = pool.drawn - n
    silent = f"; {silent_units:,} more without a position to count" if silent_units > 0 else ""
    return f"With confidence {1.0 - delta:.12g} (over the draw of {counted(n, pool.unit)} from {pool.name}{silent})"


def check_asked(name: str, value: float) -> None:
    """Refuse a probability that the user asked for, unless it is in (0, 1)."""
    if not 0.0 < value < 1.0:
        raise UserError(f"{name} is {value:g}, but must be above 0 and below 1")
