"""The settings of the main job, as frozen dataclasses that a YAML file, command-line flags and library calls fill alike."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from ks_lottery.config.checked import Checked
from ks_lottery.config.choices import BOUNDS, CATALOGS, COMPARISON_MEANINGS, DEFAULT_MODEL, TEXT_FORMATS
from ks_lottery.config.fields import setting
from ks_lottery.config.groups import (
    BatchOption,
    BootstrapOptions,
    DropOptions,
    ModelOptions,
    PromptOptions,
    StepOptions,
    TextOptions,
    TextSource,
    TranslationOptions,
)
from ks_lottery.config.ranges import COUNT, FACTOR, LEVEL, MOST, SEED, SHARE, WHOLE, Range
from ks_lottery.config.values import nested, require, values_of
from ks_lottery.errors import UserError

ALPHA_GRID = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Significance levels of the certificate: the 0 .. 1 of table 7. At 0 no row is selected: small model and original are one."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig(ModelOptions):
    """The language model."""

    name: str = setting(DEFAULT_MODEL, first=True)
    """Folder, GGUF file, hub id, or the embedded default."""


@dataclass(frozen=True, kw_only=True)
class TextConfig(DropOptions, PromptOptions, TextOptions):
    """The parallel text and how it is cleaned, split and shown to the model."""

    SECTION: ClassVar[str] = "text."

    train: str = setting(CATALOGS, first=True)
    """File (TSV, CSV, JSONL, Alpaca JSON, PO, MO, TMX, XLIFF, or one of two line-aligned files; also .gz or .xz), or the name
    or folder of a Hugging Face dataset."""
    min_pairs: int = setting(200, within=Range(kind=int, low=3, high=MOST))
    """With fewer usable pairs the run is refused."""
    calibration_share: float = setting(0.15, within=LEVEL)
    """Share of source sentences, by hash, that is kept for calibration."""
    test_share: float = setting(0.15, within=LEVEL)
    """Share of source sentences, by hash, that everything is measured on."""
    split_seed: int = setting(0, within=SEED)
    """Seed of the hash that splits the text. The seed of training has no part in it, so that runs of several seeds share one
    test text."""
    max_train: int | None = setting(None, within=COUNT)
    """At most this many pairs to train on, the first of the split."""
    max_test: int | None = setting(None, within=COUNT)
    """At most this many pairs to measure on, the first of the split."""
    max_tokens: int = setting(512, within=Range(kind=int, low=8, high=MOST))
    """Examples with more tokens are left out, and counted."""

    def __post_init__(self) -> None:
        """Check ranges."""
        super().__post_init__()
        share = self.calibration_share + self.test_share
        name = "`text.calibration_share` + `text.test_share`"
        require(share < 1, name, share, "below 1, to leave text to train on")

    @property
    def source(self) -> TextSource:
        """Where the text is read from, and how."""
        return self.first_text(self.train)


@dataclass(frozen=True, kw_only=True)
class TrainConfig(StepOptions):
    """How rows are trained. Every method uses the same settings, so that what differs is the rows.

    The defaults are ours; `--preset paper` sets the paper's.
    """

    SECTION: ClassVar[str] = "train."

    learning_rate: float = setting(1e-2, first=True, within=FACTOR)
    """Peak learning rate of Adam for the trained rows; the default is the paper's of partial tuning, for every method."""
    embed_learning_rate: float | None = setting(None, first=True, within=FACTOR)
    """A different learning rate for embed tuning; the paper uses 2e-5."""
    epochs: float = setting(5.0, first=True, within=FACTOR)
    """Passes over the training text; the default is the paper's of partial tuning, for every method."""
    embed_epochs: float | None = setting(None, first=True, within=FACTOR)
    """A different number of epochs for embed tuning; the paper uses 3."""


@dataclass(frozen=True, kw_only=True)
class SelectConfig(Checked):
    """How tickets are selected."""

    SECTION: ClassVar[str] = "select."

    alpha: float = setting(0.05, within=SHARE)
    """A row is a ticket when its p-value is below this."""


@dataclass(frozen=True, kw_only=True)
class CertifyConfig(Checked):
    """How the small model is certified."""

    SECTION: ClassVar[str] = "certify."

    alphas: tuple[float, ...] = setting(ALPHA_GRID, within=SHARE)
    """Significance levels, each with its own tickets and its own partial transfer."""
    tau: Literal["empirical", "exact", "table"] = "empirical"
    """How the bound on the shift of unselected rows is taken."""
    positions: int = setting(20, within=COUNT)
    """The bound and its audit count only the first N target positions of each sentence, as in the paper."""
    calibration_positions: int | None = setting(None, metavar="N", group="guarantee", within=COUNT)
    """A guarantee counts only the first N target positions of each sentence, and says so. Without it: whole sentences."""
    delta: float = setting(0.05, metavar="P", group="guarantee", within=LEVEL)
    """Probability that a guarantee from the calibration text fails."""
    bound: Literal["finite", "independent"] = setting("finite", group="guarantee")
    """How a guarantee is computed. finite: by the size of the pool, where that is known (hypergeometric; betting without
    replacement). independent: without it (Clopper-Pearson; Hoeffding-Bentkus)."""

    def __post_init__(self) -> None:
        """Check ranges."""
        super().__post_init__()
        require(bool(self.alphas), f"`{self.SECTION}alphas`", self.alphas, "at least one significance level")
        require(self.bound in BOUNDS, f"`{self.SECTION}bound`", self.bound, f"one of {', '.join(BOUNDS)}")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(BootstrapOptions, BatchOption, TranslationOptions):
    """How models are measured."""

    SECTION: ClassVar[str] = "evaluate."

    translations: int = setting(100, first=True, within=COUNT)
    """Only the first N test sentences are translated and scored."""
    general: str | None = setting(None, metavar="TEXT")
    """General text to measure forgetting on: one sentence a line, or parallel text, of which the source side counts. Without
    it, the source side of the run's own test pairs."""
    general_format: str = setting("auto", choices=("auto", *TEXT_FORMATS), metavar="FORMAT")
    """Format of the general text; auto goes by the file's ending, and lines is one sentence a line."""
    where_sentences: int = setting(50, within=WHOLE)
    """Only the first N test sentences show in which part of a text the tickets act; 0 for no such measurement."""

    def __post_init__(self) -> None:
        """Check ranges."""
        super().__post_init__()
        require(self.resamples >= 1, "`evaluate.resamples`", self.resamples, "1 or more")
        if self.general is None and self.general_format != "auto":
            raise UserError(
                "`evaluate.general_format` describes a general text, and there is none: give `evaluate.general` too"
            )


@dataclass(frozen=True, kw_only=True)
class RunConfig(Checked):
    """The main job, whole: text and model in, certified ticket patch out. The defaults are ours, not the paper's."""

    model: ModelConfig = field(default_factory=ModelConfig)
    text: TextConfig = field(default_factory=TextConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    select: SelectConfig = field(default_factory=SelectConfig)
    certify: CertifyConfig = field(default_factory=CertifyConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    compare: str = setting("default", choices=COMPARISON_MEANINGS)
    """Selectors that the tickets are compared with, by as many rows of each; random rows are drawn three times."""
    seed: int = setting(0, within=SEED)
    """Seed of every random choice but the split of the text, which has its own."""

    def __post_init__(self) -> None:
        """Check ranges."""
        super().__post_init__()
        require(
            self.compare in COMPARISON_MEANINGS, "`compare`", self.compare, f"one of {', '.join(COMPARISON_MEANINGS)}"
        )


def as_dict(config: RunConfig) -> dict[str, Any]:
    """Return the config as plain nested values, in the order in which they are saved."""
    return nested(values_of(config))
