"""Sizes of a recipe: how much text, how many seeds and rows, and how training goes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ks_lottery.config.settings import TrainConfig

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, kw_only=True)
class RecipeScale:
    """Size of a recipe.

    Parameters
    ----------
    sizes
        Numbers of rows that are chosen.
    seeds
        Number of seeds of training, from 0.
    max_train, max_test
        At most so many pairs to train on and to measure on, the first ones; None for all.
    max_tokens
        Longest example in tokens.
    training
        Settings of every training.
    resamples
        Resamples behind each interval.
    """

    sizes: tuple[int, ...]
    seeds: int
    max_train: int | None
    max_test: int | None
    max_tokens: int = 512
    training: TrainConfig
    resamples: int = 10_000

    def given(self, *, seeds: int | None, sizes: Sequence[int]) -> RecipeScale:
        """Return the scale with the seeds and sizes that were given."""
        return replace(self, seeds=seeds or self.seeds, sizes=tuple(sizes) or self.sizes)


SCALES = {
    "smoke": RecipeScale(
        sizes=(4, 8), seeds=1, max_train=64, max_test=24, training=TrainConfig(learning_rate=1e-2, epochs=1.0),
        resamples=1000,
    ),
    "small": RecipeScale(
        sizes=(18,), seeds=3, max_train=256, max_test=100, training=TrainConfig(learning_rate=1e-2, epochs=1.0),
        max_tokens=112,
    ),
    "paper": RecipeScale(
        sizes=(18, 120), seeds=5, max_train=None, max_test=None, training=TrainConfig(learning_rate=1e-2, epochs=1.0),
    ),
}  # fmt: skip
"""Name of a scale to its size."""
