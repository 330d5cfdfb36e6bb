"""Settings of the commands that measure and certify: evaluate, where, certify, agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence  # noqa: TC003 (types of fields are read at run time)
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ks_lottery.config.choices import AGREEMENT_LOSSES, METRICS, RULES, TEXT_FORMATS
from ks_lottery.config.fields import setting
from ks_lottery.config.groups import (
    BatchOption,
    BootstrapOptions,
    CleaningOptions,
    ModelOptions,
    OutputOptions,
    PatchPromptOptions,
    PrefixOption,
    SeedOption,
    TextOptions,
    TranslationOptions,
)
from ks_lottery.config.ranges import COUNT, LEVEL, MOST, SEED, WHOLE, Range
from ks_lottery.config.settings import CertifyConfig
from ks_lottery.errors import UserError


@dataclass(frozen=True, kw_only=True)
class MeasuredTextOptions(TextOptions):
    """How the text that is measured on is read."""

    data: str = setting(metavar="TEXT", group="text", first=True)
    """File or Hugging Face dataset to measure on."""
    dataset_split: str = setting("test", metavar="NAME", group="text")
    """Split of a Hugging Face dataset."""


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(
    PatchPromptOptions, BatchOption, PrefixOption, BootstrapOptions, TranslationOptions, SeedOption,
):  # fmt: skip
    """What the command `evaluate`, the call of that name and `EvaluationSpec` have in common."""

    metrics: Sequence[str] = setting(("spbleu", "bleu", "chrf", "accuracy"), choices=tuple(METRICS), metavar="METRIC")
    """Metrics, separated by commas or spaces."""
    positions: int | None = setting(None, metavar="N", within=COUNT)
    """Accuracy and loss count only the first N target positions of a sentence. Without it: all."""
    translations: int | None = setting(None, metavar="N", within=COUNT)
    """Only the first N sentences are translated and scored. Without it: all."""
    generation: Mapping[str, Any] = setting({}, metavar="KEY=VALUE", group="translation")
    """More settings of generate, such as length_penalty=0.8."""
    max_tokens: int | None = setting(None, metavar="N", group="text", within=COUNT)
    """Longest example in tokens; longer ones are left out. Without it, an example longer than the model's context is an
    error."""


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings(EvaluateOptions, CleaningOptions, MeasuredTextOptions, ModelOptions, OutputOptions):
    """Settings of the command `evaluate`."""

    model: str = setting(positional=True, metavar="MODEL", first=True)
    """Folder, GGUF file, hub id, asset:smollm2-135m-instruct, or asset:gemma3-270m."""
    patch: str | None = setting(None, metavar="DIR", one_of="product", parameter="product")
    """Folder of a row patch to put on the model."""
    adapter: str | None = setting(None, metavar="DIR", one_of="product", parameter="product")
    """Folder of a PEFT adapter to put on the model."""
    out: str = setting("runs/evaluate", metavar="DIR", writes="folder")
    """Folder to write."""
    language_check: bool = setting(False, parameter="language")  # noqa: FBT003
    """Count the outputs that are in the target language (extra: language)."""
    against: tuple[str, ...] = setting((), metavar="DIR")
    """Other evaluations of the same text to compare with."""
    general: str | None = setting(None, metavar="TEXT", group="text")
    """General text to measure forgetting on: one sentence a line, or parallel text, of which the source side counts."""
    general_format: str = setting("auto", choices=("auto", *TEXT_FORMATS), metavar="FORMAT", group="text")
    """Format of the general text; auto goes by the file's ending, and lines is one sentence a line."""
    spm: Mapping[str, str] = setting({}, metavar="NAME=FILE", group="translation")
    """SentencePiece models of flores101 or flores200."""


@dataclass(frozen=True, kw_only=True)
class WhereOptions(PatchPromptOptions, BatchOption, PrefixOption, BootstrapOptions, SeedOption):
    """What the command `where`, the call of that name and `WhereSpec` have in common."""

    controls: bool = False
    """Measure controls too: other prompts, and other rows or values."""
    paraphrase: str | None = setting(None, metavar="PROMPT")
    """Prompt of your own for the controls: another instruction, or a template with {source}."""
    translate: int | None = setting(None, metavar="N", within=COUNT)
    """Translate the first N sentences too, greedily; none unless given."""
    by_sentence: bool = False
    """Save what each sentence adds to accuracy and loss, in each combination of spans."""
    metrics: Sequence[str] = setting(
        ("bleu", "chrf"), choices=tuple(name for name in METRICS if name != "accuracy"), metavar="METRIC"
    )
    """Metrics of the translations, separated by commas or spaces."""
    max_new_tokens: int = setting(256, metavar="N", group="translation", within=COUNT)
    """Longest translation in tokens."""
    max_tokens: int | None = setting(None, metavar="N", group="text", within=COUNT)
    """Longest example in tokens; longer ones are left out. Unless given, text that the model cannot see is refused."""


@dataclass(frozen=True, kw_only=True)
class WhereSettings(WhereOptions, MeasuredTextOptions, ModelOptions, OutputOptions):
    """Settings of the command `where`."""

    model: str = setting(positional=True, metavar="MODEL", first=True)
    """Folder, GGUF file, hub id, asset:smollm2-135m-instruct, or asset:gemma3-270m."""
    patch: str = setting(metavar="DIR", first=True)
    """Folder of a row patch of the input side."""
    out: str | None = setting(None, metavar="FILE")
    """JSON file to write, with every figure."""


@dataclass(frozen=True, kw_only=True)
class CertifyOptions(PatchPromptOptions, BatchOption, PrefixOption):
    """What the command `certify`, the call of that name and `CertifySpec` have in common."""

    transfer: bool = False
    """Certify partial transfers: of the tickets, or of the rows of each alpha. Certified too where no patch is given."""
    examples: int = setting(10, metavar="N", within=WHOLE)
    """Number of worst examples."""
    same_pool: bool = setting(False, group="guarantee")  # noqa: FBT003
    """Say that text and calibration text are parts of one text, split at random."""
    loss: Literal["share", "any"] = setting("share", group="guarantee")
    """Loss of a choice: share of positions answered differently, or whether any is."""
    sizes: Sequence[int] = setting((), metavar="N", group="guarantee", within=COUNT)
    """Numbers of first tickets to choose among."""
    max_tokens: int | None = setting(None, metavar="N", group="text", within=COUNT)
    """Longest example in tokens; longer ones are left out. Without it, an example longer than the model's context is an
    error."""
    split_seed: int = setting(0, metavar="N", group="guarantee", within=SEED)
    """Seed of the draw of the calibration text."""


@dataclass(frozen=True, kw_only=True)
class CertifySettings(CertifyOptions, CertifyConfig, MeasuredTextOptions, ModelOptions, OutputOptions):
    """Settings of the command `certify`."""

    SECTION: ClassVar[str] = ""

    model: str | None = setting(None, positional=True, metavar="MODEL", first=True)
    """Base that the patches were made on."""
    tuned: str | None = setting(None, metavar="DIR", first=True)
    """Folder of embed tuning."""
    data: str | None = setting(None, metavar="TEXT", group="text", first=True)  # pyright: ignore[reportIncompatibleVariableOverride]
    """File or Hugging Face dataset to measure on."""
    small: tuple[str, ...] = setting((), metavar="DIR", one_of="small model", first=True)
    """Folders of patches to certify, such as those of partial tuning; each with the rows that it changes and its own alpha."""
    transfer: bool = setting(False, one_of="small model", first=True)  # noqa: FBT003
    """Certify partial transfers: of the tickets, or of the rows of each alpha. The default where no patch is given."""
    recheck: str | None = setting(None, metavar="DIR", one_of="small model", first=True)
    """Recompute the guarantees and the choice of a run, or of what certify wrote, from its files alone; exit code 1 where one
    differs."""
    tickets: str | None = setting(None, metavar="FILE", first=True)
    """JSON file that select wrote."""
    scan: str | None = setting(None, metavar="FILE", first=True)
    """Parquet file of scan, base against tuned; scanned anew unless given."""
    out: str | None = setting(None, metavar="DIR", first=True, writes="new folder")
    """Folder to write; new or empty. Unless given, nothing is written."""
    rule: str = setting("theorem", choices=RULES)
    """Rule to show; all three are written."""
    calibration: str | None = setting(None, metavar="TEXT|N|P", group="guarantee")
    """N sentences or a share P of the text, drawn at random; or another text, which must be of the same pool."""
    calibration_target: str | None = setting(None, metavar="FILE", group="guarantee")
    """The other one of two line-aligned calibration files."""
    choose: tuple[float, float] | None = setting(
        None, metavar="EPSILON DELTA", group="guarantee", parameter="epsilon", within=LEVEL
    )
    """Choose the smallest ticket set that loses at most EPSILON of the agreement, with probability 1 - DELTA."""


@dataclass(frozen=True, kw_only=True)
class AgreeOptions(PatchPromptOptions, BatchOption, PrefixOption):
    """What the command `agree`, the call of that name and `AgreeSpec` have in common."""

    calibration: float = setting(metavar="N|P", first=True, within=Range(low=0, high=MOST, above=True))
    """N sentences, or a share P below 1 of the text, are drawn at random, and only these are computed."""
    positions: str = setting("all", metavar="all|N")
    """All positions of a sentence count, or only the first N; the statements say so."""
    generate: bool = False
    """Generate greedily too, and bound the share of sentences for which both models give the same output."""
    max_new_tokens: int = setting(64, metavar="N", within=COUNT)
    """Longest generated output in tokens; outputs are compared up to there."""
    delta: float = setting(0.05, metavar="P", group="guarantee", within=LEVEL)
    """Probability that a bound fails, each taken alone."""
    bound: Literal["finite", "independent"] = setting("finite", group="guarantee")
    """How a bound is computed. finite: by the size of the text (hypergeometric; betting without replacement). independent:
    without it (Clopper-Pearson; Hoeffding-Bentkus)."""
    loss: str = setting("share", choices=AGREEMENT_LOSSES, group="guarantee")
    """Loss that --choose and --fail-below go by."""
    fail_below: float | None = setting(None, metavar="P", group="guarantee", within=LEVEL)
    """Exit code 1 where it is not guaranteed for each candidate that 1 - loss is at least P."""
    split_seed: int = setting(0, metavar="N", group="guarantee", within=SEED)
    """Seed of the draw."""
    max_tokens: int | None = setting(None, metavar="N", group="text", within=COUNT)
    """Longest example in tokens; longer ones are left out. Without it, an example longer than a model's context is an error."""

    @property
    def first_positions(self) -> int | None:
        """How many first positions of a sentence count; None for all.

        Raises
        ------
        UserError
            When ``positions`` is neither ``all`` nor a whole number, 1 or more.
        """
        text = str(self.positions)
        if text == "all":
            return None
        if not text.isdecimal() or not 1 <= int(text[:20]) <= MOST:
            raise UserError(f"`positions` is {text[:20]!r}, but must be all, or a whole number, 1 or more")
        return int(text)


@dataclass(frozen=True, kw_only=True)
class AgreeSettings(AgreeOptions, MeasuredTextOptions, ModelOptions, OutputOptions):
    """Settings of the command `agree`."""

    reference: str = setting(positional=True, metavar="REFERENCE", first=True)
    """Model that the others are compared with: folder, GGUF file, hub id, asset, or a row patch or PEFT adapter."""
    candidates: tuple[str, ...] = setting(positional=True, metavar="CANDIDATE", first=True)
    """Models that shall answer like it, of the same kinds; with --choose from the largest to the smallest."""
    base: str | None = setting(None, metavar="MODEL", first=True)
    """Base of the patches and adapters among the models; what each names unless given."""
    out: str | None = setting(None, metavar="DIR", first=True, writes="new folder")
    """Folder to write, with every answer; new or empty. Unless given, nothing is written."""
    choose: tuple[float, float] | None = setting(
        None, metavar="EPSILON DELTA", group="guarantee", parameter="epsilon", within=LEVEL
    )
    """Choose the smallest candidate that loses at most EPSILON, with probability 1 - DELTA; exit code 1 where there is none."""
