"""The noun `Predictions`: what a model answers at each target position when it is given the reference so far."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_lottery.config.groups import BootstrapOptions, SeedOption
from ks_lottery.stats.intervals import bootstrap_interval
from ks_lottery.store.files import read_table, write_table
from ks_lottery.store.manifest import manifest

if TYPE_CHECKING:
    import numpy.typing as npt

COLUMNS = ("sentence", "position", "label", "log_p", "first", "second", "p_first", "p_second")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Predictions:
    """One entry for each of N target positions, ordered by sentence and position.

    Parameters
    ----------
    sentence, position
        Index of the sentence, and of the position in its response from 0 (the end-of-sentence token is the last).
    label, log_p
        Token of the reference, and the log-probability that the model gives it.
    first, second, p_first, p_second
        The two most probable tokens and their probabilities, from a float32 softmax.
    made_from
        Fingerprints of the model, the patch and the text.
    """

    sentence: npt.NDArray[np.int64]
    position: npt.NDArray[np.int64]
    label: npt.NDArray[np.int64]
    log_p: npt.NDArray[np.float64]
    first: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]
    p_first: npt.NDArray[np.float64]
    p_second: npt.NDArray[np.float64]
    made_from: dict[str, Any]

    def __repr__(self) -> str:
        """Return one short line."""
        count = len(np.unique(self.sentence))
        return f"Predictions({len(self):,} positions of {count:,} sentences)"

    def __len__(self) -> int:
        """Return the number N of positions."""
        return len(self.label)

    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        """Whether the most probable token is the reference's, for each position."""
        return self.first == self.label

    @property
    def accuracy(self) -> float:
        """Share of positions answered as in the reference."""
        return float(self.correct.mean())

    @property
    def loss(self) -> float:
        """Mean negative log-probability of the reference, in nats a token."""
        return float(-self.log_p.mean())

    def interval(
        self,
        *,
        confidence: float = BootstrapOptions.confidence,
        resamples: int = BootstrapOptions.resamples,
        seed: int = SeedOption.seed,
    ) -> tuple[float, float]:
        """Return a bootstrap interval of the accuracy, by resampling sentences (positions of one are dependent)."""
        return self._interval(self.correct, confidence, resamples, seed)

    def loss_interval(
        self,
        *,
        confidence: float = BootstrapOptions.confidence,
        resamples: int = BootstrapOptions.resamples,
        seed: int = SeedOption.seed,
    ) -> tuple[float, float]:
        """Return a bootstrap interval of the loss, by resampling sentences."""
        return self._interval(-self.log_p, confidence, resamples, seed)

    def _interval(self, values: npt.NDArray[Any], confidence: float, resamples: int, seed: int) -> tuple[float, float]:
        size = int(self.sentence.max()) + 1
        summed = np.bincount(self.sentence, weights=values, minlength=size)
        total = np.bincount(self.sentence, minlength=size).astype(np.float64)
        return bootstrap_interval(summed, total, confidence=confidence, resamples=resamples, seed=seed)

    def head(self, positions: int) -> Predictions:
        """Keep the first `positions` of each sentence."""
        keep = self.position < positions
        return Predictions(**{name: getattr(self, name)[keep] for name in COLUMNS}, made_from=self.made_from)

    def save(self, path: str | Path) -> None:
        """Write one row a position as Parquet, with the manifest in its metadata."""
        about = manifest("predictions", made_from=self.made_from, settings={})
        write_table(Path(path), {name: getattr(self, name) for name in COLUMNS}, about)

    @classmethod
    def open(cls, path: str | Path) -> Predictions:
        """Read what `save` wrote.

        Raises
        ------
        UserError
            When the file is missing, damaged, of another kind, or of a newer format.
        """
        columns, about = read_table(Path(path), "predictions")
        return cls(**{name: columns[name] for name in COLUMNS}, made_from=about["made_from"])
