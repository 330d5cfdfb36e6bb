"""Whether a training can move rows so far that the KS test sees it: the scale of docs/method.md, before anything is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ks_lottery.config.presets import process_count
from ks_lottery.report.forms import counted, rounded_up
from ks_lottery.stats.null import critical_count
from ks_lottery.tuning.plan import steps_in_all

if TYPE_CHECKING:
    from ks_lottery.tuning.tuning import Tuning

ALPHA = 0.05
"""Significance level that a row would have to pass."""

MOST_ROWS = 1000
"""Rows whose spread is looked at."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How far a training can move a row, against what the test sees.

    Parameters
    ----------
    learning_rate, steps
        Of the training.
    spread
        Standard deviation of the coordinates of a row before training, the median over the rows.
    width
        Coordinates d of a row.
    """

    learning_rate: float
    steps: int
    spread: float
    width: int

    @property
    def move(self) -> float:
        """How far Adam moves a coordinate at most: half a learning rate a step, the mean of a cosine with a warm-up."""
        return self.learning_rate * self.steps / 2

    @property
    def critical(self) -> float:
        """Smallest D with p < 0.05 at this width."""
        return critical_count(self.width, ALPHA) / self.width

    @property
    def is_measurable(self) -> bool:
        """Whether a row that moves so far can pass the test."""
        return self.spread == 0 or statistic_of(self.move / self.spread) >= self.critical

    @property
    def least_rate(self) -> float:
        """Learning rate at which this many steps can move a row far enough, at the least."""
        return 2 * self.spread * _move_of(min(self.critical, 0.999)) / self.steps

    def sentence(self) -> str:
        """Say what the test cannot see, and which learning rate would be large enough at the least."""
        return (
            f"A scan will find no tickets: at learning rate {self.learning_rate:g}, {counted(self.steps, 'step')} can move a "
            f"row by at most {rounded_up(self.move / self.spread, 2)} of its spread, and at width {self.width:,} only a D of "
            f"{self.critical:.4f} or more passes. Give a learning rate above {rounded_up(self.least_rate, 1)}, or more epochs."
        )


def statistic_of(move: float) -> float:
    """Return D of a standard normal row before and after all of its coordinates moved by `move`: the most that a move can do.

    Coordinates that move in both directions give less.

    >>> round(statistic_of(0.1), 4), round(statistic_of(2.0), 4)
    (0.0399, 0.6827)
    """
    return math.erf(move / math.sqrt(8))


def _move_of(statistic: float) -> float:
    """Return the move that gives a D; the inverse of `statistic_of`."""
    from scipy.special import erfinv

    return math.sqrt(8) * float(erfinv(statistic))


def scale_of(tuning: Tuning) -> Scale | None:
    """Return the scale of an embed tuning; None for every other method, whose result is not scanned for tickets."""
    config, rows = tuning.config, tuning.rows
    if tuning.spec.method != "embed" or rows is None or not len(rows):
        return None
    ids = rows.ids[:: len(rows) // MOST_ROWS + 1]
    values = tuning.loaded.checkpoint.rows(ids, side="output" if tuning.spec.side == "output" else "input")
    steps = steps_in_all(
        len(tuning.examples), config.batch_size, config.gradient_accumulation, config.epochs, process_count()
    )
    spread = float(np.median(values.numpy().std(axis=1)))
    return Scale(learning_rate=config.learning_rate, steps=steps, spread=spread, width=int(values.shape[1]))
