"""Whether a training can move rows so far that the KS test sees it: the scale of docs/method.md, before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ks_lottery.config.choices import METHODS
from ks_lottery.config.presets import process_count
from ks_lottery.models.row_scale import critical_statistic, fitted_rate, least_move, spread_of, statistic_of
from ks_lottery.report.forms import counted, rounded_up
from ks_lottery.tuning.plan import steps_in_all

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ks_lottery.checkpoint.reader import Checkpoint
    from ks_lottery.config.settings import TrainConfig
    from ks_lottery.corpus.batches import Example
    from ks_lottery.tuning.tune_spec import TuneSpec
    from ks_lottery.tuning.tuning import Tuning

ENOUGH = 16.0
"""By how much the largest move of a training has to exceed the least that the test sees, so that tickets can be expected.

SmolLM2-135M (docs/log.md, one seed each): learning rate 2e-3 and 300 steps, 12 times, finds none; 1e-2 and 60 steps, also 12
times, 7; 1e-2 and 117 steps, 24 times, 85."""


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
        return critical_statistic(self.width)

    @property
    def is_measurable(self) -> bool:
        """Whether a row that moves so far can pass the test."""
        return self.spread == 0 or statistic_of(self.move / self.spread) >= self.critical

    @property
    def least_rate(self) -> float:
        """Learning rate at which this many steps can move a row far enough, at the least."""
        return 2 * self.spread * least_move(self.width) / self.steps

    @property
    def finds_tickets(self) -> bool:
        """Whether tickets can be expected: one occurrence of a token, or all steps, move a row far enough (`ENOUGH`)."""
        return self.learning_rate >= min(fitted_rate(self.spread, self.width), ENOUGH * self.least_rate)

    @property
    def fitted(self) -> float:
        """Learning rate that fits the rows (`fitted_rate`), twice that where the steps are few; for rows with a spread."""
        rate = fitted_rate(self.spread, self.width)
        return rate if ENOUGH * self.least_rate <= rate else 2 * rate

    def sentence(self) -> str:
        """Say what the test cannot see, and which learning rate would be large enough at the least."""
        return (
            f"A scan will find no tickets: at learning rate {self.learning_rate:g}, {counted(self.steps, 'step')} can move a "
            f"row by at most {rounded_up(self.move / self.spread, 2)} of its spread, and at width {self.width:,} only a D of "
            f"{self.critical:.4f} or more passes. Give a learning rate above {rounded_up(self.least_rate, 1)}, or more epochs."
        )

    def replaced(self, paper: float) -> str:
        """Say that this learning rate is used in place of the paper's, and why.

        Parameters
        ----------
        paper
            Learning rate of the method in the paper.
        """
        return (
            f"learning rate {self.learning_rate:g} instead of the paper's {paper:g}: rows of this model have spread "
            f"{self.spread:.2g}, and at width {self.width:,} only a D of {self.critical:.4f} or more passes; with "
            f"{counted(self.steps, 'step')} at {paper:g} a scan would find few tickets or none. The preset paper keeps its rate"
        )


def scale_of(tuning: Tuning) -> Scale | None:
    """Return the scale of an embed tuning; None for every other method, whose result is not scanned for tickets."""
    rows = tuning.rows
    if tuning.spec.method != "embed" or rows is None or not len(rows):
        return None
    spread = spread_of(tuning.loaded.checkpoint, rows.ids, tuning.spec.side)
    return _scale(tuning.loaded.checkpoint, tuning.config, len(tuning.examples), spread)


def _scale(checkpoint: Checkpoint, config: TrainConfig, examples: int, spread: float) -> Scale:
    steps = steps_in_all(examples, config.batch_size, config.gradient_accumulation, config.epochs, process_count())
    width = checkpoint.units[checkpoint.embedding].width
    return Scale(learning_rate=config.learning_rate, steps=steps, spread=spread, width=width)


def fitted_config(
    spec: TuneSpec, config: TrainConfig, checkpoint: Checkpoint, examples: Sequence[Example]
) -> tuple[TrainConfig, str | None]:
    """Return the settings with a learning rate that fits the rows of the model, and the sentence that says so.

    They are as they were, and the sentence is None, where a learning rate is given, the method has no use for it
    (`Method.fits_rows`), or tickets can be expected at the paper's rate.

    Parameters
    ----------
    config
        Settings with the learning rate of the paper.
    examples
        What is trained on; the spread is that of the rows of its tokens.
    """
    method, given = METHODS[spec.method], spec.settings
    if not method.fits_rows or any(given.get(name) for name in ("learning_rate", "embed_learning_rate")):
        return config, None
    tokens = np.array(sorted({token for example in examples for token in example.sequence}), dtype=np.int64)
    scale = _scale(checkpoint, config, len(examples), spread_of(checkpoint, tokens, spec.side))
    if scale.spread == 0 or scale.finds_tickets:
        return config, None
    fitted = replace(scale, learning_rate=scale.fitted)
    return replace(config, learning_rate=fitted.learning_rate), fitted.replaced(scale.learning_rate)
