"""The settings of the main job, as frozen dataclasses that a YAML file, command-line flags and library calls fill alike."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from ks_lottery.config.choices import BOUNDS, CATALOGS, COMPARISON_MEANINGS, DEFAULT_MODEL
from ks_lottery.config.fields import setting
from ks_lottery.config.groups import (
    BatchOption,
    BootstrapOptions,
    ModelOptions,
    PromptOptions,
    StepOptions,
    TextOptions,
    TextSource,
    TranslationOptions,
)
from ks_lottery.config.values import nested, require, values_of

ALPHA_GRID = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Significance levels of the certificate: the 0 .. 1 of table 7. At 0 no row is selected: small model and original are one."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig(ModelOptions):
    """The language model."""

    name: str = setting(DEFAULT_MODEL, first=True)
    """Folder, GGUF file, hub id, or the embedded default."""


@dataclass(frozen=True, kw_only=True)
class TextConfig(PromptOptions, TextOptions):
    """The parallel text and how it is cleaned, split and shown to the model."""

    train: str = setting(CATALOGS, first=True)
    """File (TSV, CSV, JSONL, Alpaca JSON, PO, MO, TMX, XLIFF, or one of two line-aligned files; also .gz or .xz), or the name
    or folder of a Hugging Face dataset."""
    min_words: int = 4
    """Pairs with fewer words on a side are dropped."""
    drop_placeholders: bool = True
    """Drop pairs with format placeholders such as %s or {name}."""
    drop_markup: bool = True
    """Drop pairs with tags, entities or web addresses."""
    min_pairs: int = 200
    """With fewer usable pairs the run is refused."""
    calibration_share: float = 0.15
    """Share of source sentences, by hash, that is kept for calibration."""
    test_share: float = 0.15
    """Share of source sentences, by hash, that everything is measured on."""
    split_seed: int = 0
    """Seed of the hash that splits the text. The seed of training has no part in it, so that runs of several seeds share one
    test text."""
    max_train: int | None = None
    """At most this many pairs to train on, the first of the split."""
    max_test: int | None = None
    """At most this many pairs to measure on, the first of the split."""
    max_tokens: int = 512
    """Examples with more tokens are left out, and counted."""

    def __post_init__(self) -> None:
        """Check ranges."""
        require(self.min_words >= 0, "text.min_words", self.min_words, "0 or more")
        require(self.min_pairs >= 3, "text.min_pairs", self.min_pairs, "3 or more")
        require(self.max_tokens >= 8, "text.max_tokens", self.max_tokens, "8 or more")
        for key in ("calibration_share", "test_share"):
            require(0 < getattr(self, key) < 1, f"text.{key}", getattr(self, key), "between 0 and 1")
        share = self.calibration_share + self.test_share
        require(share < 1, "text.calibration_share + text.test_share", share, "below 1, to leave text to train on")
        require(0 <= self.split_seed < 2**32, "text.split_seed", self.split_seed, "from 0 to 2**32 - 1")
        for key in ("max_train", "max_test", "limit"):
            value = getattr(self, key)
            require(value is None or value >= 1, f"text.{key}", value, "1 or more")

    @property
    def source(self) -> TextSource:
        """Where the text is read from, and how."""
        return self.first_text(self.train)


@dataclass(frozen=True, kw_only=True)
class TrainConfig(StepOptions):
    """How rows are trained. Every method uses the same settings, so that what differs is the rows.

    The defaults are ours; `--preset paper` sets the paper's.
    """

    learning_rate: float = setting(1e-2, first=True)
    """Peak learning rate of Adam for the trained rows; the default is the paper's of partial tuning, for every method."""
    embed_learning_rate: float | None = setting(None, first=True)
    """Another one for embed tuning, which has 2e-5 in the paper."""
    epochs: float = setting(5.0, first=True)
    """Passes over the training text; the default is the paper's of partial tuning, for every method."""
    embed_epochs: float | None = setting(None, first=True)
    """Another number for embed tuning, which has 3 in the paper."""

    def __post_init__(self) -> None:
        """Check ranges."""
        for key in ("learning_rate", "embed_learning_rate", "epochs", "embed_epochs"):
            value = getattr(self, key)
            require(value is None or 0 < value < math.inf, f"train.{key}", value, "above 0 and finite")
        require(self.batch_size >= 1, "train.batch_size", self.batch_size, "1 or more")
        require(
            self.gradient_accumulation >= 1,
            "train.gradient_accumulation",
            self.gradient_accumulation,
            "1 or more",
        )
        require(0 <= self.warmup_ratio < 1, "train.warmup_ratio", self.warmup_ratio, "from 0 to below 1")
        require(self.max_grad_norm >= 0, "train.max_grad_norm", self.max_grad_norm, "0 or more")
        require(0 <= self.weight_decay < math.inf, "train.weight_decay", self.weight_decay, "0 or more and finite")


@dataclass(frozen=True, kw_only=True)
class SelectConfig:
    """How tickets are selected."""

    alpha: float = 0.05
    """A row is a ticket when its p-value is below this."""

    def __post_init__(self) -> None:
        """Check ranges."""
        require(0 <= self.alpha <= 1, "select.alpha", self.alpha, "from 0 to 1")


@dataclass(frozen=True, kw_only=True)
class CertifyConfig:
    """How the small model is certified."""

    alphas: tuple[float, ...] = ALPHA_GRID
    """Significance levels, each with its own tickets and its own partial transfer."""
    tau: Literal["empirical", "exact", "table"] = "empirical"
    """How the bound on the shift of unselected rows is taken."""
    positions: int = 20
    """The bound and its audit count the first so many target positions of each sentence, as in the paper."""
    calibration_positions: int | None = setting(None, metavar="N", group="guarantee")
    """A guarantee counts the first so many target positions of each sentence, and says so; without it, whole sentences."""
    delta: float = setting(0.05, metavar="P", group="guarantee")
    """Probability that a guarantee from the calibration text fails."""
    bound: Literal["finite", "independent"] = setting("finite", group="guarantee")
    """How a guarantee is computed. finite: by the size of the pool, where that is known (hypergeometric; betting without
    replacement). independent: without it (Clopper-Pearson; Hoeffding-Bentkus)."""

    def __post_init__(self) -> None:
        """Check ranges."""
        require(0 < self.delta < 1, "certify.delta", self.delta, "between 0 and 1")
        require(bool(self.alphas), "certify.alphas", self.alphas, "at least one significance level")
        for alpha in self.alphas:
            require(0 <= alpha <= 1, "certify.alphas", alpha, "from 0 to 1")
        for key in ("positions", "calibration_positions"):
            value = getattr(self, key)
            require(value is None or value >= 1, f"certify.{key}", value, "1 or more")
        require(self.bound in BOUNDS, "certify.bound", self.bound, f"one of {', '.join(BOUNDS)}")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(BootstrapOptions, BatchOption, TranslationOptions):
    """How models are measured."""

    translations: int = setting(100, first=True)
    """The first so many test sentences are translated and scored."""

    def __post_init__(self) -> None:
        """Check ranges."""
        for key in ("num_beams", "max_new_tokens", "batch_size", "resamples"):
            require(getattr(self, key) >= 1, f"evaluate.{key}", getattr(self, key), "1 or more")
        require(self.translations >= 1, "evaluate.translations", self.translations, "1 or more")
        require(0 < self.confidence < 1, "evaluate.confidence", self.confidence, "between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The main job, whole: text and model in, certified ticket patch out. The defaults are ours, not the paper's."""

    model: ModelConfig = field(default_factory=ModelConfig)
    text: TextConfig = field(default_factory=TextConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    select: SelectConfig = field(default_factory=SelectConfig)
    certify: CertifyConfig = field(default_factory=CertifyConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    compare: str = setting("default", choices=COMPARISON_MEANINGS)
    """Selectors that the tickets are compared with, by as many rows of each; random rows are drawn three times."""
    seed: int = 0
    """Seed of every random choice but the split of the text, which has its own."""

    def __post_init__(self) -> None:
        """Check ranges."""
        require(
            self.compare in COMPARISON_MEANINGS, "compare", self.compare, f"one of {', '.join(COMPARISON_MEANINGS)}"
        )
        require(0 <= self.seed < 2**32, "seed", self.seed, "from 0 to 2**32 - 1")


def as_dict(config: RunConfig) -> dict[str, Any]:
    """Return the config as plain nested values, in the order in which they are saved."""
    return nested(values_of(config))
