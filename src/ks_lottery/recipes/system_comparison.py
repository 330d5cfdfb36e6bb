"""The one comparison of two systems over several seeds: paired by seed and sentence, and what may be said of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ks_lottery.errors import UserError
from ks_lottery.stats.crossed import CrossedDifference, crossed_bootstrap, crossed_ratio
from ks_lottery.stats.multiplicity import adjust

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ks_lottery.store.cells import FinishedCell

METRICS = {"accuracy": "correct", "loss": "loss"}
"""Metric to the entry of a cell's sentences that adds up to it, over its positions."""

LEAST_SEEDS = 5
"""Seeds that a claim needs."""

LEVEL = 0.05
"""Holm's p below which one system is said to beat another."""


def compare_systems(
    system: Sequence[FinishedCell],
    baseline: Sequence[FinishedCell],
    metric: str,
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> CrossedDifference:
    """Return the metric of a system less that of a baseline, seeds and sentences resampled crossed.

    Parameters
    ----------
    system, baseline
        One cell a seed, both in the same order of seeds. One cell alone, such as the original model's, is compared with each.
    metric
        ``accuracy`` (shares) or ``loss`` (nats a token).

    Raises
    ------
    UserError
        When the cells are not of the same sentences, or not of as many seeds.
    """
    count = max(len(system), len(baseline))
    sides = [list(cells) * (count if len(cells) == 1 else 1) for cells in (system, baseline)]
    if len(sides[0]) != len(sides[1]) or not count:
        raise UserError(
            f"systems of {len(system)} and {len(baseline)} seeds cannot be compared: measure the same seeds"
        )
    _check_positions([*sides[0], *sides[1]])
    positions = sides[0][0].figures["sentences"]["positions"]
    above, below = (
        np.array([cell.figures["sentences"][METRICS[metric]] for cell in side], dtype=np.float64) for side in sides
    )
    return crossed_bootstrap(above - below, positions, confidence=confidence, resamples=resamples, seed=seed)


def paired(
    system: Sequence[FinishedCell], baseline: Sequence[FinishedCell]
) -> tuple[list[FinishedCell], list[FinishedCell]]:
    """Return the cells of two systems of the seeds that both have, in the order of the first."""
    known = {cell.about["seed"]: cell for cell in baseline}
    common = [cell for cell in system if cell.about["seed"] in known]
    return common, [known[cell.about["seed"]] for cell in common]


def same_positions(cells: Sequence[FinishedCell]) -> bool:
    """Say whether cells were measured on as many positions of each sentence; a prompt of another kind can cut targets apart."""
    return all(cell.figures["sentences"]["positions"] == cells[0].figures["sentences"]["positions"] for cell in cells)


def how_paired(finished: Sequence[FinishedCell]) -> str:
    """Say how differences and their intervals were made."""
    seeds = len({cell.about["seed"] for cell in finished} - {None})
    resampled = "seeds and sentences are resampled crossed" if seeds > 1 else "one seed: sentences alone are resampled"
    return f"Each difference is paired by seed and sentence, with its 95% interval; {resampled}."


def differing_conditions(cells: Sequence[FinishedCell]) -> list[str]:
    """Say in one sentence under how many conditions cells were computed; nothing where it is one."""
    conditions = {str(sorted(cell.conditions.items(), key=str)) for cell in cells}
    if len(conditions) < 2:
        return []
    return [f"The cells were computed under {len(conditions)} different conditions (threads, device or versions)."]


def _check_positions(cells: Sequence[FinishedCell]) -> None:
    if not same_positions(cells):
        raise UserError("cells of different test sentences cannot be compared: measure all systems on one text")


def kept_gain(
    system: Sequence[FinishedCell],
    whole: Sequence[FinishedCell],
    original: Sequence[FinishedCell],
    *,
    resamples: int = 10_000,
) -> tuple[float, tuple[float, float] | None] | None:
    """Return the share of a tuning's gain in accuracy that a system keeps, and its 95% interval (`crossed_ratio`).

    Parameters
    ----------
    system, whole
        One cell a seed of each, in the same order of seeds.
    original
        The cell of the original model.

    Returns
    -------
    tuple or None
        The share, and its interval: None where the interval of the gain itself contains 0. None for both where the gain is 0.
    """
    _check_positions([*original, *system, *whole])
    before = np.array(original[0].figures["sentences"]["correct"], dtype=np.float64)
    part, gain = (
        np.array([cell.figures["sentences"]["correct"] for cell in side], dtype=np.float64) - before
        for side in (system, whole)
    )
    return crossed_ratio(part, gain, resamples=resamples) if gain.sum() else None


def holm(comparisons: Mapping[str, CrossedDifference]) -> dict[str, float]:
    """Return Holm's p of each of the comparisons that were fixed beforehand, which are corrected together."""
    logs = np.log(np.array([comparison.pvalue for comparison in comparisons.values()], dtype=np.float64))
    return {name: math.exp(p) for name, p in zip(comparisons, adjust(logs, "holm"), strict=True)}


def claim(system: str, baseline: str, difference: CrossedDifference, adjusted: float) -> str:
    """Say what a primary comparison of accuracies shows; "beats" only with enough seeds and Holm's p below 0.05.

    >>> five = CrossedDifference(estimate=0.02, low=0.01, high=0.03, pvalue=0.001, seeds=5, sentences=100)
    >>> claim("gradient", "occurrence", five, 0.002)
    'gradient beats occurrence: +0.020 (+0.010 to +0.030), p 0.002 by Holm, 5 seeds.'
    >>> claim("gradient", "occurrence", five, 0.2)
    'No difference shown between gradient and occurrence: +0.020 (+0.010 to +0.030), p 0.2 by Holm, 5 seeds.'
    """
    seeds = f"{difference.seeds} seed{'s' if difference.seeds > 1 else ''}"
    figures = f"{difference.estimate:+.3f} ({difference.low:+.3f} to {difference.high:+.3f}), p {adjusted:.2g} by Holm, {seeds}"
    if difference.seeds < LEAST_SEEDS:
        return f"{system} less {baseline}: {figures}. A claim needs {LEAST_SEEDS} seeds: this is descriptive."
    if adjusted >= LEVEL:
        return f"No difference shown between {system} and {baseline}: {figures}."
    first, second = (system, baseline) if difference.estimate > 0 else (baseline, system)
    return f"{first} beats {second}: {figures}."
