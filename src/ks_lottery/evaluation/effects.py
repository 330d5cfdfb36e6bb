"""The effect of rows on one text: next-token accuracy and loss beside those of the original, and the share of a gain."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 (types of fields are read at run time)
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_lottery.stats.intervals import bootstrap_interval, ratio_interval

if TYPE_CHECKING:
    import numpy.typing as npt

    from ks_lottery.evaluation.predictions import Predictions

Interval = tuple[float, float]
"""Lower and upper end."""


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What some rows do, active in some spans, on one text.

    Parameters
    ----------
    name
        What was measured, such as ``instruction`` or ``template rows alone``.
    rows
        Number of rows that differ from the base's.
    accuracy, loss
        Next-token accuracy, and loss in nats a token, with the rows.
    original
        Accuracy of the original model on the same text, with the same prompt.
    difference, difference_interval
        Accuracy minus `original`, and its interval over sentences.
    loss_difference, loss_difference_interval
        The same of the loss; below 0 is better.
    share, share_interval
        `difference` divided by that of the whole patch in every span, and its interval; None where the interval of the
        divisor contains 0, or the text has other positions.
    ended, scores
        Share of translations that ended by themselves, and their scores by metric; None without translations.
    """

    name: str
    rows: int
    accuracy: float
    loss: float
    original: float
    difference: float
    difference_interval: Interval
    loss_difference: float
    loss_difference_interval: Interval
    share: float | None = None
    share_interval: Interval | None = None
    ended: float | None = None
    scores: Mapping[str, float] | None = None

    @property
    def is_measured(self) -> bool:
        """Whether the interval of the difference excludes 0."""
        low, high = self.difference_interval
        return low > 0 or high < 0

    def as_dict(self) -> dict[str, Any]:
        """Return everything in plain values."""
        return asdict(self)

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Effect:
        """Return what `as_dict` returned, also after JSON."""
        plain: dict[str, Any] = dict(content)
        for name in ("difference_interval", "loss_difference_interval", "share_interval"):
            if plain[name] is not None:
                low, high = plain[name]
                plain[name] = (float(low), float(high))
        return cls(**plain)


def effect_of(
    name: str,
    predictions: Predictions,
    original: Predictions,
    *,
    rows: int,
    whole: tuple[Predictions, Predictions] | None = None,
    bootstrap: Mapping[str, Any],
) -> Effect:
    """Compare predictions with those of the original model on the same positions, by a paired bootstrap over sentences.

    Parameters
    ----------
    whole
        Predictions of the whole patch and of the original, whose difference `share` is of; None for no share.
    bootstrap
        ``confidence``, ``resamples`` and ``seed``.

    Raises
    ------
    UserError
        When the two are not of the same positions.
    """
    difference, difference_interval = predictions.difference(original, **bootstrap)
    size = int(original.sentence.max()) + 1
    positions = np.bincount(original.sentence, minlength=size)
    lost = np.bincount(original.sentence, weights=original.log_p - predictions.log_p, minlength=size)
    share: dict[str, Any] = {}
    if whole is not None and _same(whole[1], original):
        gain, part = _gains(*whole, size), _gains(predictions, original, size)
        if gain.sum() != 0:
            share = {"share": float(part.sum() / gain.sum()), "share_interval": ratio_interval(part, gain, **bootstrap)}
    return Effect(
        name=name,
        rows=rows,
        accuracy=predictions.accuracy,
        loss=predictions.loss,
        original=original.accuracy,
        difference=difference,
        difference_interval=difference_interval,
        loss_difference=float(lost.sum() / positions.sum()),
        loss_difference_interval=bootstrap_interval(lost, positions, **bootstrap),
        **share,
    )


def _gains(predictions: Predictions, original: Predictions, size: int) -> npt.NDArray[np.float64]:
    """Return how many more positions of each sentence are answered as in the reference, shape (size,)."""
    gaps = predictions.correct.astype(np.float64) - original.correct
    return np.bincount(original.sentence, weights=gaps, minlength=size).astype(np.float64)


def _same(one: Predictions, other: Predictions) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("sentence", "position", "label"))
