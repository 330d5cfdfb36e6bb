"""The noun `Predictions`: what a model answers at each target position when it is given the reference so far."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_lottery.config.groups import BootstrapOptions, SeedOption
from ks_lottery.errors import UserError
from ks_lottery.report.notebook import Shown
from ks_lottery.report.section import Section
from ks_lottery.stats.intervals import bootstrap_interval, bootstrap_ratios
from ks_lottery.store.content import ByContent, data_frame, digest_content
from ks_lottery.store.files import read_table, write_table
from ks_lottery.store.manifest import manifest
from ks_lottery.store.schema import MAKE_AGAIN, mapping, real_column, whole_column

if TYPE_CHECKING:
    import numpy.typing as npt
    from pandas import DataFrame

LARGEST = (1 << 26) - 1
"""Largest number of a sentence, position or token that is taken for possible: sums over sentences are tables of as many."""

ROUNDING = 1e-5
"""How far a float32 softmax may be above 1."""

COLUMNS = ("sentence", "position", "label", "log_p", "first", "second", "p_first", "p_second")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Predictions(ByContent, Shown):
    """One entry for each of N target positions, ordered by sentence and position.

    Two are equal when their columns are.

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
    def fingerprint(self) -> str:
        """SHA-256 of the columns."""
        return digest_content("predictions", {name: getattr(self, name) for name in COLUMNS})

    def sections(self) -> list[Section]:
        """Return accuracy and loss in a sentence."""
        figures = f"accuracy {self.accuracy:.4f}, loss {self.loss:.4f} nats a token, " if len(self) else ""
        count = len(np.unique(self.sentence))
        return [Section(sentences=[f"Predictions: {figures}{len(self):,} positions of {count:,} sentences"])]

    def to_pandas(self) -> DataFrame:
        """Return one row a position, with the columns of the class and whether the answer is ``correct``.

        Raises
        ------
        UserError
            When pandas is not installed.
        """
        return data_frame({**{name: getattr(self, name) for name in COLUMNS}, "correct": self.correct})

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

    def by_sentence(self) -> dict[str, list[Any]]:
        """Return what each sentence adds to accuracy and loss.

        Returns
        -------
        dict
            Lists with one entry for each sentence, up to the last that has positions: ``positions``, ``correct`` answers, and
            the summed ``loss`` in nats, to 6 decimals.
        """
        size = int(self.sentence.max()) + 1

        def summed(values: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
            return np.bincount(self.sentence, weights=values, minlength=size)

        return {
            "positions": summed().tolist(),
            "correct": summed(self.correct).astype(int).tolist(),
            "loss": summed(-self.log_p).round(6).tolist(),
        }

    def interval(
        self,
        *,
        confidence: float = BootstrapOptions.confidence,
        resamples: int = BootstrapOptions.resamples,
        seed: int = SeedOption.seed,
    ) -> tuple[float, float]:
        """Return a bootstrap interval of the accuracy, by resampling sentences (positions of one are dependent).

        Parameters
        ----------
        confidence
            Level of the interval, in (0, 1) (0.95).
        resamples
            Number of resamples, 1 or more (2,000).
        seed
            Seed of the draw (0).
        """
        return self._interval(self.correct, confidence, resamples, seed)

    def loss_interval(
        self,
        *,
        confidence: float = BootstrapOptions.confidence,
        resamples: int = BootstrapOptions.resamples,
        seed: int = SeedOption.seed,
    ) -> tuple[float, float]:
        """Return a bootstrap interval of the loss, in nats; `confidence`, `resamples` and `seed` as for `interval`."""
        return self._interval(-self.log_p, confidence, resamples, seed)

    def difference(
        self, other: Predictions, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
    ) -> tuple[float, tuple[float, float]]:
        """Return this accuracy minus that of `other`, and a bootstrap interval of the paired difference.

        `confidence`, `resamples` and `seed` as for `interval`.

        Both are resampled by the same draw of sentences, which is also the draw of `interval` with the same seed.

        Raises
        ------
        UserError
            When the two are not of the same positions of the same text.
        """
        self.check_same_positions(other)
        gaps = self.correct.astype(np.float64) - other.correct
        return float(gaps.mean()), self._interval(gaps, confidence, resamples, seed)

    def resampled_difference(
        self, other: Predictions, *, resamples: int = 2000, seed: int = 0
    ) -> npt.NDArray[np.float64]:
        """Return this accuracy minus that of `other` in each resample of sentences, shape (resamples,); see `difference`.

        Parameters
        ----------
        other
            Predictions of the same positions.
        resamples
            Draws of sentences with replacement, at least 1.
        seed
            Of the draws.

        Raises
        ------
        UserError
            When the positions differ.
        """
        self.check_same_positions(other)
        sums = self._by_sentence(self.correct.astype(np.float64) - other.correct)
        return bootstrap_ratios(*sums, resamples=resamples, seed=seed)

    def check_same_positions(self, other: Predictions) -> None:
        """Refuse predictions that are not of the same positions of the same text.

        Parameters
        ----------
        other
            The predictions that are to be compared with these.

        Raises
        ------
        UserError
            For such predictions.
        """
        if any(not np.array_equal(getattr(self, name), getattr(other, name)) for name in COLUMNS[:3]):
            raise UserError("predictions of different positions or text cannot be compared: measure both on one text")

    def _interval(self, values: npt.NDArray[Any], confidence: float, resamples: int, seed: int) -> tuple[float, float]:
        return bootstrap_interval(*self._by_sentence(values), confidence=confidence, resamples=resamples, seed=seed)

    def _by_sentence(self, values: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return the sum of values, and the number of positions, of each sentence."""
        size = int(self.sentence.max()) + 1
        summed = np.bincount(self.sentence, weights=values, minlength=size)
        return summed.astype(np.float64), np.bincount(self.sentence, minlength=size).astype(np.float64)

    def head(self, positions: int) -> Predictions:
        """Keep the first `positions` of each sentence."""
        return self._where(self.position < positions)

    def without_ends(self, end: int) -> Predictions:
        """Leave out the end-of-sentence positions: the last one of each sentence, where its label is `end`.

        Parameters
        ----------
        end
            Id of the token that ends a response (`ks_lottery.corpus.prompt_form.PromptForm.end`).
        """
        last = np.append(self.sentence[1:] != self.sentence[:-1], True)[: len(self)]
        return self._where(~(last & (self.label == end)))

    def _where(self, keep: npt.NDArray[np.bool_]) -> Predictions:
        return Predictions(**{name: getattr(self, name)[keep] for name in COLUMNS}, made_from=self.made_from)

    def save(self, path: str | Path) -> Path:
        """Write one row a position as Parquet to `path`, with the manifest in its metadata, and return the path."""
        path = Path(path).expanduser()
        about = manifest("predictions", made_from=self.made_from, settings={})
        write_table(path, {name: getattr(self, name) for name in COLUMNS}, about)
        return path

    @classmethod
    def open(cls, path: str | Path) -> Predictions:
        """Read what `save` wrote to `path`.

        Raises
        ------
        UserError
            When the file is missing, damaged, of another kind, or of a newer format, or a column is missing, of another type or
            out of range.
        """
        path = Path(path).expanduser()
        columns, about = read_table(path, "predictions")
        sentence, position, label, first, second = (
            whole_column(path, columns, name, high=LARGEST)
            for name in ("sentence", "position", "label", "first", "second")
        )
        p_first, p_second = (
            real_column(path, columns, name, low=0.0, high=1.0 + ROUNDING) for name in ("p_first", "p_second")
        )
        log_p = real_column(path, columns, "log_p", high=ROUNDING)
        steps, within = np.diff(sentence), np.diff(position)
        if bool(((steps < 0) | ((steps == 0) & (within <= 0))).any()):
            raise UserError(f"{path}: its positions are not in order, or one is there twice: {MAKE_AGAIN}")
        if bool((p_second > p_first).any()):
            raise UserError(f"{path}: a second answer is more probable than the first: {MAKE_AGAIN}")
        return cls(
            sentence=sentence, position=position, label=label, log_p=log_p, first=first, second=second, p_first=p_first,
            p_second=p_second, made_from=mapping(path, about, "made_from"),
        )  # fmt: skip
