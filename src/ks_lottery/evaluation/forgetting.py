"""The noun `Forgetting`: what a tuning changed on general text, which it was not meant to change."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 (types of fields are read at run time)
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_lottery.report.forms import interval
from ks_lottery.report.section import Section
from ks_lottery.stats.intervals import bootstrap_interval
from ks_lottery.store.schema import is_number, is_whole

if TYPE_CHECKING:
    from ks_lottery.evaluation.predictions import Predictions

Bounds = tuple[float, float]
"""Lower and upper end."""

_NUMBERS = ("accuracy", "loss", "original_accuracy", "original_loss", "accuracy_difference", "loss_difference")
_COUNTS = ("sentences", "positions", "short", "overlong", "resamples", "seed")


@dataclass(frozen=True, kw_only=True)
class Forgetting:
    """Next-token accuracy and loss on general text, of the tuned model and of the original, without what tuning made.

    Each token but the first of a sentence is predicted from the tokens before it, without a prompt.

    Parameters
    ----------
    sentences, positions
        Numbers of sentences and of predicted tokens.
    short, overlong
        Sentences that were left out: of fewer than two tokens, and longer than the limit.
    accuracy, loss
        Of the tuned model; the loss in nats a token.
    original_accuracy, original_loss
        Of the original model.
    accuracy_difference, accuracy_interval
        `accuracy` minus `original_accuracy`, and its interval from resampled sentences, the same for both models; None without
        resamples. Below 0 is forgetting.
    loss_difference, loss_interval
        The same of the loss; above 0 is forgetting.
    untouched
        Number of sentences that hold no token whose row was trained, and that the model therefore answers as before, bit for
        bit. None for an adapter, whose weights act on every sentence.
    identical
        Number of those whose predictions were measured to be bit-identical; None as `untouched`.
    confidence, resamples, seed
        Of the bootstrap.
    text
        Fingerprint of the sentences.
    """

    sentences: int
    positions: int
    short: int
    overlong: int
    accuracy: float
    loss: float
    original_accuracy: float
    original_loss: float
    accuracy_difference: float
    accuracy_interval: Bounds | None
    loss_difference: float
    loss_interval: Bounds | None
    untouched: int | None
    identical: int | None
    confidence: float
    resamples: int
    seed: int
    text: str

    @property
    def untouched_share(self) -> float | None:
        """Share of the sentences that hold no token whose row was trained; None for an adapter."""
        return None if self.untouched is None else self.untouched / self.sentences

    def content(self) -> dict[str, Any]:
        """Return everything as plain values, with ``untouched_share``."""
        return {**asdict(self), "untouched_share": self.untouched_share}

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Forgetting:
        """Return what `content` returned, also after JSON.

        Raises
        ------
        ValueError
            When a value is missing or is of another type.
        """
        plain = {name: content[name] for name in content if name != "untouched_share"}
        for name in ("accuracy_interval", "loss_interval"):
            if (bounds := plain.get(name)) is not None:
                low, high = bounds
                plain[name] = (low, high)
        numbers = [plain[name] for name in (*_NUMBERS, "confidence")]
        numbers += [*(plain["accuracy_interval"] or ()), *(plain["loss_interval"] or ())]
        counts = [plain[name] for name in _COUNTS]
        counts += [plain[name] for name in ("untouched", "identical") if plain[name] is not None]
        if (plain["untouched"] is None) != (plain["identical"] is None):
            raise ValueError("what is unchanged is not counted")
        if not (all(map(is_number, numbers)) and all(map(is_whole, counts)) and plain["sentences"] > 0):
            raise ValueError("a figure of what was forgotten is no number")
        return cls(**plain)

    def sections(self) -> list[Section]:
        """Return accuracy and loss beside the original's, their differences, and how much of the text is unchanged."""
        left_out = [
            f"{count:,} {why}"
            for count, why in ((self.short, "of fewer than two tokens"), (self.overlong, "longer than max_tokens"))
            if count
        ]
        apart = f"; left out {' and '.join(left_out)}" if left_out else ""
        resampled = f"; {self.confidence:.0%} intervals from {self.resamples:,} resamples of sentences"
        sentences = [
            f"general text: accuracy {self.accuracy:.4f} (original {self.original_accuracy:.4f}), difference "
            f"{self.accuracy_difference:+.4f}{_shown(self.accuracy_interval)}",
            f"general text: loss {self.loss:.4f} nats a token (original {self.original_loss:.4f}), difference "
            f"{self.loss_difference:+.4f}{_shown(self.loss_interval)}",
            f"{self.sentences:,} sentences, {self.positions:,} predicted tokens{apart}{resampled if self.resamples else ''}",
            self._unchanged(),
        ]
        return [Section(title="Forgetting", sentences=sentences)]

    def _unchanged(self) -> str:
        if self.untouched is None:
            return "The weights of an adapter act on every sentence: none is known to be answered as before."
        held = f"{self.untouched_share:.1%} of the sentences ({self.untouched:,}) hold no trained row"
        if self.identical == self.untouched:
            return f"{held}; the model answers them bit-identically."
        return f"{held}; {self.identical:,} of them were answered bit-identically on this device."


def _shown(bounds: Bounds | None) -> str:
    return "" if bounds is None else f" ({interval(bounds, '+.4f')})"


def paired_differences(
    tuned: Predictions, original: Predictions, *, confidence: float, resamples: int, seed: int
) -> dict[str, Any]:
    """Return accuracy and loss of two models on the same positions, and their differences with paired intervals.

    Returns
    -------
    dict
        The figures of `Forgetting` by name.

    Raises
    ------
    UserError
        When the two are not of the same positions.
    """
    tuned.check_same_positions(original)
    size = int(original.sentence.max()) + 1
    positions = np.bincount(original.sentence, minlength=size)
    gaps = {"accuracy": tuned.correct.astype(np.float64) - original.correct, "loss": original.log_p - tuned.log_p}
    figures: dict[str, Any] = {
        "accuracy": tuned.accuracy, "loss": tuned.loss,
        "original_accuracy": original.accuracy, "original_loss": original.loss,
    }  # fmt: skip
    bootstrap: dict[str, Any] = {"confidence": confidence, "resamples": resamples, "seed": seed}
    for name, values in gaps.items():
        summed = np.bincount(original.sentence, weights=values, minlength=size)
        figures[f"{name}_difference"] = float(summed.sum() / positions.sum())
        figures[f"{name}_interval"] = bootstrap_interval(summed, positions, **bootstrap) if resamples else None
    return {**figures, **bootstrap}
