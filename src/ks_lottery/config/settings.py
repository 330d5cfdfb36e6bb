"""Every setting, as frozen dataclasses that a YAML file, command-line flags and library calls fill alike."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal

from ks_lottery.config.choices import BOUNDS, CATALOGS, DEFAULT_MODEL
from ks_lottery.errors import UserError

ALPHA_GRID = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Significance levels of the certificate: the 0 .. 1 of table 7. At 0 no row is selected: small model and original are one."""


def _require(condition: bool, key: str, value: object, wanted: str) -> None:
    if not condition:
        raise UserError(f"{key} is {value!r}, but must be {wanted}")


@dataclass(frozen=True)
class ModelConfig:
    """The language model."""

    name: str = DEFAULT_MODEL
    """Folder, GGUF file, hub id, or the embedded default."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the frozen body; auto takes bfloat16 where the processor has it. Trained rows are float32."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where the model runs; auto takes a GPU where there is one."""
    trust_remote_code: bool = False
    """Run Python code that comes with the checkpoint. Off unless you type it."""


@dataclass(frozen=True, kw_only=True)
class TextSource:
    """Where parallel text is read from, and how. `ks_lottery.corpus.source.read_text` reads it."""

    path: str
    """File (TSV, CSV, JSONL, Alpaca JSON, PO, MO, TMX, XLIFF, or one of two line-aligned files; also .gz or .xz), the name or
    folder of a Hugging Face dataset, or the embedded catalogs."""
    target: str | None = None
    """The other one of two line-aligned files."""
    format: str = "auto"
    """Format of the text, one of `ks_lottery.config.choices.TEXT_FORMATS`; auto goes by the file's ending."""
    source_language: str = "en"
    """Code or English name of the language to translate from."""
    target_language: str = "ca"
    """Code or English name of the language to translate to."""
    source_column: str | None = None
    """Column or key of the source sentence, where it cannot be told: its name, or its number from 1 without a header."""
    target_column: str | None = None
    """Column or key of the target sentence, where it cannot be told."""
    dataset_config: str | None = None
    """Configuration of a Hugging Face dataset."""
    dataset_split: str = "train"
    """Split of a Hugging Face dataset."""
    dataset_streaming: bool = False
    """Read a Hugging Face dataset row by row, without storing it first."""
    limit: int | None = None
    """Read the first so many pairs of the text only."""
    instruction: str | None = None
    """Instruction of every prompt; without it the text's own (Alpaca's instruction), or one made from the languages."""

    def __post_init__(self) -> None:
        """Check ranges."""
        _require(self.limit is None or self.limit >= 1, "limit", self.limit, "1 or more")


@dataclass(frozen=True)
class TextConfig:
    """The parallel text and how it is cleaned, split and shown to the model."""

    train: str = CATALOGS
    """File (TSV, CSV, JSONL, Alpaca JSON, PO, MO, TMX, XLIFF, or one of two line-aligned files; also .gz or .xz), or the name
    or folder of a Hugging Face dataset."""
    target: str | None = None
    """The other one of two line-aligned files."""
    format: Literal["auto", "tsv", "csv", "jsonl", "json", "lines", "po", "mo", "tmx", "xliff", "dataset"] = "auto"
    """Format of the text; auto goes by the file's ending."""
    source_language: str = "en"
    """Code or English name of the language to translate from."""
    target_language: str = "ca"
    """Code or English name of the language to translate to."""
    source_column: str | None = None
    """Column or key of the source sentence, where it cannot be told: its name, or its number from 1 without a header."""
    target_column: str | None = None
    """Column or key of the target sentence, where it cannot be told."""
    dataset_config: str | None = None
    """Configuration of a Hugging Face dataset."""
    dataset_split: str = "train"
    """Split of a Hugging Face dataset."""
    dataset_streaming: bool = False
    """Read a Hugging Face dataset row by row, without storing it first."""
    limit: int | None = None
    """Read the first so many pairs of the text only."""
    instruction: str | None = None
    """Instruction of every prompt; without it the text's own (Alpaca's instruction), or one made from the languages."""
    template: str = "alpaca"
    """Prompt: alpaca (this project's form of it), alpaca-stanford and alpaca-single (the published forms), plain, chat (the
    tokenizer's own chat template), or your own text with {instruction} and {source}."""
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
        _require(self.min_words >= 0, "text.min_words", self.min_words, "0 or more")
        _require(self.min_pairs >= 3, "text.min_pairs", self.min_pairs, "3 or more")
        _require(self.max_tokens >= 8, "text.max_tokens", self.max_tokens, "8 or more")
        for key in ("calibration_share", "test_share"):
            _require(0 < getattr(self, key) < 1, f"text.{key}", getattr(self, key), "between 0 and 1")
        share = self.calibration_share + self.test_share
        _require(share < 1, "text.calibration_share + text.test_share", share, "below 1, to leave text to train on")
        _require(0 <= self.split_seed < 2**32, "text.split_seed", self.split_seed, "from 0 to 2**32 - 1")
        for key in ("max_train", "max_test", "limit"):
            value = getattr(self, key)
            _require(value is None or value >= 1, f"text.{key}", value, "1 or more")

    @property
    def source(self) -> TextSource:
        """Where the text is read from, and how."""
        names = [f.name for f in dataclasses.fields(TextSource) if f.name != "path"]
        return TextSource(path=self.train, **{name: getattr(self, name) for name in names})


@dataclass(frozen=True)
class TrainConfig:
    """How rows are trained. Every method uses the same settings, so that what differs is the rows.

    The defaults are ours; `--preset paper` sets the paper's.
    """

    learning_rate: float = 1e-2
    """Peak learning rate of Adam for the trained rows; the default is the paper's of partial tuning, for every method."""
    embed_learning_rate: float | None = None
    """Another one for embed tuning, which has 2e-5 in the paper."""
    epochs: float = 5.0
    """Passes over the training text; the default is the paper's of partial tuning, for every method."""
    embed_epochs: float | None = None
    """Another number for embed tuning, which has 3 in the paper."""
    batch_size: int = 8
    """Sentence pairs a batch and device; the authors' scripts have steps of 128 in all."""
    gradient_accumulation: int = 1
    """Batches added up before a step."""
    warmup_ratio: float = 0.03
    """Share of the steps in which the learning rate rises; it then falls along a cosine."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this norm; 0 clips nothing."""
    weight_decay: float = 0.0
    """Decay of the trained parameters, of no others; off, since it moves a trained row also where its token is missing."""
    share_prefix: bool = True
    """Compute the prompt's common beginning once a batch instead of once a sentence."""
    gradient_checkpointing: bool = False
    """Compute activations again instead of keeping them: less memory, more time; switches share_prefix off."""

    def __post_init__(self) -> None:
        """Check ranges."""
        for key in ("learning_rate", "embed_learning_rate", "epochs", "embed_epochs"):
            value = getattr(self, key)
            _require(value is None or 0 < value < math.inf, f"train.{key}", value, "above 0 and finite")
        _require(self.batch_size >= 1, "train.batch_size", self.batch_size, "1 or more")
        _require(
            self.gradient_accumulation >= 1,
            "train.gradient_accumulation",
            self.gradient_accumulation,
            "1 or more",
        )
        _require(0 <= self.warmup_ratio < 1, "train.warmup_ratio", self.warmup_ratio, "from 0 to below 1")
        _require(self.max_grad_norm >= 0, "train.max_grad_norm", self.max_grad_norm, "0 or more")
        _require(0 <= self.weight_decay < math.inf, "train.weight_decay", self.weight_decay, "0 or more and finite")


@dataclass(frozen=True)
class SelectConfig:
    """How tickets are selected."""

    alpha: float = 0.05
    """A row is a ticket when its p-value is below this."""

    def __post_init__(self) -> None:
        """Check ranges."""
        _require(0 <= self.alpha <= 1, "select.alpha", self.alpha, "from 0 to 1")


@dataclass(frozen=True)
class CertifyConfig:
    """How the small model is certified."""

    alphas: tuple[float, ...] = ALPHA_GRID
    """Significance levels, each with its own tickets and its own partial transfer."""
    tau: Literal["empirical", "exact", "table"] = "empirical"
    """How the bound on the shift of unselected rows is taken."""
    positions: int = 20
    """The bound and its audit count the first so many target positions of each sentence, as in the paper."""
    calibration_positions: int | None = None
    """A guarantee counts the first so many target positions of each sentence, and says so; without it, whole sentences."""
    delta: float = 0.05
    """Probability that a guarantee from the calibration text fails."""
    bound: Literal["finite", "independent"] = "finite"
    """How a guarantee is computed. finite: by the size of the pool, where that is known (hypergeometric; betting without
    replacement). independent: without it (Clopper-Pearson; Hoeffding-Bentkus)."""

    def __post_init__(self) -> None:
        """Check ranges."""
        _require(0 < self.delta < 1, "certify.delta", self.delta, "between 0 and 1")
        _require(bool(self.alphas), "certify.alphas", self.alphas, "at least one significance level")
        for alpha in self.alphas:
            _require(0 <= alpha <= 1, "certify.alphas", alpha, "from 0 to 1")
        for key in ("positions", "calibration_positions"):
            value = getattr(self, key)
            _require(value is None or value >= 1, f"certify.{key}", value, "1 or more")
        _require(self.bound in BOUNDS, "certify.bound", self.bound, f"one of {', '.join(BOUNDS)}")


@dataclass(frozen=True)
class EvaluateConfig:
    """How models are measured."""

    translations: int = 100
    """The first so many test sentences are translated and scored."""
    num_beams: int = 4
    """Beams of the search; 1 is greedy."""
    max_new_tokens: int = 256
    """Longest translation in tokens."""
    batch_size: int = 16
    """Sentences at a time."""
    confidence: float = 0.95
    """Level of the intervals."""
    resamples: int = 2000
    """Bootstrap resamples of sentences behind each interval."""

    def __post_init__(self) -> None:
        """Check ranges."""
        for key in ("num_beams", "max_new_tokens", "batch_size", "resamples"):
            _require(getattr(self, key) >= 1, f"evaluate.{key}", getattr(self, key), "1 or more")
        _require(self.translations >= 1, "evaluate.translations", self.translations, "1 or more")
        _require(0 < self.confidence < 1, "evaluate.confidence", self.confidence, "between 0 and 1")


@dataclass(frozen=True)
class RunConfig:
    """The main job, whole: text and model in, certified ticket patch out. The defaults are ours, not the paper's."""

    model: ModelConfig = field(default_factory=ModelConfig)
    text: TextConfig = field(default_factory=TextConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    select: SelectConfig = field(default_factory=SelectConfig)
    certify: CertifyConfig = field(default_factory=CertifyConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    seed: int = 0
    """Seed of every random choice but the split of the text, which has its own."""

    def __post_init__(self) -> None:
        """Check ranges."""
        _require(0 <= self.seed < 2**32, "seed", self.seed, "from 0 to 2**32 - 1")


def as_dict(config: RunConfig) -> dict[str, Any]:
    """Return the config as plain nested values, in the order of the fields."""
    content = dataclasses.asdict(config)
    content["certify"]["alphas"] = list(config.certify.alphas)
    return content
