"""Several draws of one system as one: their mean accuracy, its range, and the paired difference from another system."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ks_lottery.config.groups import BootstrapOptions, SeedOption
from ks_lottery.errors import UserError
from ks_lottery.evaluation.predictions import COLUMNS, Predictions
from ks_lottery.stats.intervals import bootstrap_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt


@dataclass(frozen=True, kw_only=True)
class MeanAccuracy:
    """The mean accuracy of several draws of one system, such as as many random rows.

    Parameters
    ----------
    mean, interval
        Mean over draws, and its bootstrap interval over sentences: one draw of sentences serves all systems.
    range
        The lowest and the highest accuracy of a draw.
    """

    mean: float
    interval: tuple[float, float]
    range: tuple[float, float]


def mean_accuracy(
    draws: Sequence[Predictions],
    *,
    confidence: float = BootstrapOptions.confidence,
    resamples: int = BootstrapOptions.resamples,
    seed: int = SeedOption.seed,
) -> MeanAccuracy:
    """Return the mean accuracy of one or more draws, on the same positions.

    Parameters
    ----------
    confidence, resamples, seed
        As for `Predictions.interval`, which a single draw agrees with.

    Raises
    ------
    UserError
        When the draws are not of the same positions of the same text.
    """
    correct = _mean_correct(draws)
    accuracies = [float(draw.accuracy) for draw in draws]
    interval = _interval(draws[0], correct, confidence, resamples, seed)
    return MeanAccuracy(mean=float(correct.mean()), interval=interval, range=(min(accuracies), max(accuracies)))


def mean_difference(
    draws: Sequence[Predictions],
    other: Predictions,
    *,
    confidence: float = BootstrapOptions.confidence,
    resamples: int = BootstrapOptions.resamples,
    seed: int = SeedOption.seed,
) -> tuple[float, tuple[float, float]]:
    """Return the mean accuracy of the draws less that of `other`, and a bootstrap interval of the paired difference.

    Sentences alone are resampled, not the draws: the interval does not cover what other draws would change. With one draw it is
    `Predictions.difference`.

    Raises
    ------
    UserError
        When they are not of the same positions of the same text.
    """
    gaps = _mean_correct(draws, other) - other.correct
    return float(gaps.mean()), _interval(other, gaps, confidence, resamples, seed)


def _mean_correct(draws: Sequence[Predictions], other: Predictions | None = None) -> npt.NDArray[np.float64]:
    first = draws[0] if other is None else other
    for draw in draws:
        if any(not np.array_equal(getattr(draw, name), getattr(first, name)) for name in COLUMNS[:3]):
            raise UserError("predictions of different positions or text cannot be compared: measure all on one text")
    return np.stack([draw.correct for draw in draws]).astype(np.float64).mean(axis=0)


def _interval(
    like: Predictions, values: npt.NDArray[np.float64], confidence: float, resamples: int, seed: int
) -> tuple[float, float]:
    size = int(like.sentence.max()) + 1
    summed = np.bincount(like.sentence, weights=values, minlength=size)
    total = np.bincount(like.sentence, minlength=size).astype(np.float64)
    return bootstrap_interval(summed, total, confidence=confidence, resamples=resamples, seed=seed)
