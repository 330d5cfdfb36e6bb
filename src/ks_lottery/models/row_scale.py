"""How far a row has to move until the KS test sees it, and the learning rate at which training moves rows so far."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ks_lottery.report.forms import counted, rounded_up
from ks_lottery.stats.null import critical_count

if TYPE_CHECKING:
    import numpy.typing as npt

    from ks_lottery.checkpoint.gguf_rows import GgufRows
    from ks_lottery.checkpoint.patch import Side
    from ks_lottery.checkpoint.reader import Checkpoint

ALPHA = 0.05
"""Significance level that a row would have to pass."""

OCCURRENCE = 3.5
"""Learning rates by which one occurrence of a token moves each coordinate of its row, under Adam and a cosine: 3 to 4 on
average (docs/method.md, Scale)."""

STEPS = (1, 2, 5, 10)
"""First digits of the learning rates that are chosen."""

MOST_ROWS = 1000
"""Rows whose spread is looked at."""


def statistic_of(move: float) -> float:
    """Return D of a standard normal row before and after all of its coordinates moved by `move`: the most that a move can do.

    Coordinates that move in both directions give less.

    >>> round(statistic_of(0.1), 4), round(statistic_of(2.0), 4)
    (0.0399, 0.6827)
    """
    return math.erf(move / math.sqrt(8))


def move_of(statistic: float) -> float:
    """Return the move, in standard deviations of a row, that gives a D below 1; the inverse of `statistic_of`."""
    from scipy.special import erfinv

    return math.sqrt(8) * float(erfinv(statistic))


def critical_statistic(width: int) -> float:
    """Return the smallest D with p < 0.05 of rows of `width` coordinates."""
    return critical_count(width, ALPHA) / width


def least_move(width: int) -> float:
    """Return how far a row of `width` coordinates has to move, in its standard deviations, until p < 0.05."""
    return move_of(min(critical_statistic(width), 0.999))


def spread_of(
    checkpoint: Checkpoint | GgufRows, ids: npt.NDArray[np.int64] | None = None, side: Side = "input"
) -> float:
    """Return the standard deviation of the coordinates of a row, the median over rows.

    Parameters
    ----------
    ids
        Rows that are looked at, shape (K,), K of 1 or more; all unless given. Of many, every n-th is read.
    side
        Embedding that they are rows of; ``both`` is the input side.
    """
    every = np.arange(checkpoint.vocabulary, dtype=np.int64) if ids is None else ids
    values = checkpoint.rows(every[:: len(every) // MOST_ROWS + 1], side="output" if side == "output" else "input")
    return float(np.median(values.numpy().std(axis=1)))


def fitted_rate(spread: float, width: int) -> float:
    """Return the learning rate at which one occurrence of a token moves its row so far that the test sees it.

    spread x `least_move` / `OCCURRENCE`, rounded up to a first digit of 1, 2 or 5; 0 for rows without spread.

    >>> fitted_rate(0.12, 576), fitted_rate(0.018, 4096)
    (0.01, 0.0005)
    """
    least = spread * least_move(width) / OCCURRENCE
    if least <= 0:
        return 0.0
    power = math.floor(math.log10(least))
    digit = next(step for step in STEPS if least <= step * 10.0**power * (1 + 1e-9))
    return float(f"{digit}e{power}")


def rate_sentence(checkpoint: Checkpoint | GgufRows) -> str:
    """Return the learning rate at which embed tuning of a model finds tickets, as the remedy of an error."""
    width, spread = checkpoint.units[checkpoint.embedding].width, spread_of(checkpoint)
    rate = fitted_rate(spread, width)
    if not rate:
        return f"The rows of {checkpoint.name} have no spread, so that no learning rate can be named"
    return (
        f"Embed tuning of {checkpoint.name} needs a learning rate of about {rate:g}, and twice that with few steps "
        f"(its rows have spread {rounded_up(spread, 2)} and {counted(width, 'coordinate')})"
    )
