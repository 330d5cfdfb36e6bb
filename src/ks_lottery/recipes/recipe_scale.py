"""Sizes of a recipe: how much text, how many seeds and rows, and how training goes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ks_lottery.config.presets import tune_preset
from ks_lottery.config.settings import TrainConfig
from ks_lottery.config.values import values_of
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RATES = {"full": 1e-4, "lora": 1e-2, "qlora": 1e-2, "prefix": 1e-2, "prompt": 0.3}
"""Learning rate of methods that do not train rows of the embedding."""


@dataclass(frozen=True, kw_only=True)
class PowerGrid:
    """Trainings of the recipe `power`: embed tuning at each learning rate, for each number of steps, with each batch.

    Parameters
    ----------
    rates, steps, batches
        Learning rates, steps, and examples a step.
    """

    rates: tuple[float, ...]
    steps: tuple[int, ...]
    batches: tuple[int, ...]


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
    prompts
        Numbers of tokens of prompts that are trained, virtual ones and those of the vocabulary.
    rates
        Learning rate of the methods that need another one than `training` has.
    primary_seeds
        Seeds of the comparisons that are fixed beforehand, at least `seeds`.
    translations, num_beams, max_new_tokens
        Sentences that the main systems translate with seed 0, the first ones, and how.
    resamples
        Resamples behind each interval.
    levels
        Number of alphas of a table that are computed, its first and last among them; None for all.
    power
        Trainings of the recipe `power`.
    preset
        Settings of every training that have a name (`ks_lottery.config.choices.PRESETS`), in place of `training` and `rates`;
        None for none.
    first_seed
        The first seed of training.
    alphas
        Thresholds of p that choose rows, beside the numbers of `sizes`.
    draws
        Least number of draws of random rows.
    translates_every
        Whether the main systems translate with every seed, not with the first one alone.
    models
        Models where the user gives none; empty for the embedded one.
    """

    sizes: tuple[int, ...]
    seeds: int
    max_train: int | None
    max_test: int | None
    max_tokens: int = 512
    training: TrainConfig
    prompts: tuple[int, ...] = (18,)
    rates: Mapping[str, float] = field(default_factory=lambda: dict(RATES))
    primary_seeds: int = 0
    translations: int = 0
    num_beams: int = 1
    max_new_tokens: int = 128
    resamples: int = 10_000
    levels: int | None = None
    power: PowerGrid
    preset: str | None = None
    first_seed: int = 0
    alphas: tuple[float, ...] = ()
    draws: int = 3
    translates_every: bool = False
    models: tuple[str, ...] = ()

    @property
    def every_seed(self) -> range:
        """Seeds of training."""
        return range(self.first_seed, self.first_seed + self.seeds)

    @property
    def every_draw(self) -> range:
        """Seeds of random rows: those of training, and more where these are fewer than `draws`."""
        return range(self.first_seed, self.first_seed + max(self.seeds, self.draws))

    def translates(self, seed: int) -> bool:
        """Say whether systems with this seed translate."""
        return self.translates_every or seed == self.first_seed

    def given(self, *, seeds: int | None, sizes: Sequence[int], learning_rate: float | None) -> RecipeScale:
        """Return the scale with what was given; given seeds are also those of the fixed comparisons.

        Raises
        ------
        UserError
            When a learning rate is given and the scale has those of a preset.
        """
        if learning_rate is not None and self.preset is not None:
            raise UserError(
                f"`learning_rate` is {learning_rate:g}, but this recipe has the rates of the {self.preset} at this scale. "
                "Leave it out, or choose another scale"
            )
        training = self.training if learning_rate is None else replace(self.training, learning_rate=learning_rate)
        return replace(
            self, seeds=seeds or self.seeds, primary_seeds=seeds or max(self.seeds, self.primary_seeds),
            sizes=tuple(sizes) or self.sizes, training=training,
        )  # fmt: skip

    def levels_of(self, alphas: Sequence[float]) -> tuple[float, ...]:
        """Return the alphas of a table that are computed: all, or as many as `levels` says, at equal distances.

        >>> SCALES["smoke"].levels_of((0.0, 0.05, 0.1, 0.5, 1.0))
        (0.0, 0.1, 1.0)
        """
        if self.levels is None or len(alphas) <= self.levels:
            return tuple(alphas)
        last = len(alphas) - 1
        return tuple(alphas[round(place * last / (self.levels - 1))] for place in range(self.levels))

    def training_of(self, method: str) -> dict[str, Any]:
        """Return the settings of a training by a method."""
        if self.preset is not None:
            return values_of(TrainConfig(**tune_preset(self.preset, method, {}, processes=1)["settings"]))
        rate = self.rates.get(method, self.training.learning_rate)
        return {**values_of(self.training), "learning_rate": rate}


SCALES = {
    "smoke": RecipeScale(
        sizes=(4, 8), prompts=(4,), seeds=1, max_train=64, max_test=24, training=TrainConfig(learning_rate=1e-2, epochs=1.0),
        translations=2, max_new_tokens=8, resamples=1000, levels=3,
        power=PowerGrid(rates=(1e-4, 1e-2), steps=(4, 8), batches=(4, 8)),
    ),
    "small": RecipeScale(
        sizes=(18, 120), prompts=(8, 18, 32), seeds=3, primary_seeds=5, max_train=512, max_test=300,
        training=TrainConfig(learning_rate=1e-2, epochs=1.0), max_tokens=256, translations=32,
        power=PowerGrid(rates=(1e-3, 3e-3, 1e-2), steps=(32, 64), batches=(4, 8)),
    ),
    "paper": RecipeScale(
        sizes=(18, 120), prompts=(8, 18, 32), seeds=5, max_train=None, max_test=None,
        training=TrainConfig(learning_rate=1e-2, epochs=1.0), translations=1012, num_beams=4, max_new_tokens=256,
        power=PowerGrid(rates=(2e-5, 1e-3, 1e-2), steps=(78, 234, 1172), batches=(8, 128)),
    ),
}  # fmt: skip
"""Name of a scale to its size."""
