"""Groups of settings that several commands and library calls share, each written once."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

from ks_lottery.config.checked import Checked
from ks_lottery.config.choices import TEXT_FORMATS
from ks_lottery.config.fields import setting
from ks_lottery.config.ranges import COUNT, LEVEL, SEED, STRENGTH, WHOLE, Range

AGAIN = "Compute the common beginning of the prompts again for every sentence"
"""What the flag does that switches `share_prefix` off."""


@dataclass(frozen=True, kw_only=True)
class TextOptions(Checked):
    """How parallel text is read."""

    GROUP: ClassVar[str] = "text"

    target: str | None = setting(None, metavar="FILE")
    """The other one of two line-aligned files."""
    format: str = setting("auto", choices=("auto", *TEXT_FORMATS), metavar="FORMAT")
    """Format of the text; auto uses the ending of the file name. plain is text of one language: one line an example, or the key
    text of JSON objects and datasets."""
    source_language: str = setting("en", metavar="LANG")
    """Code or English name of the language to translate from."""
    target_language: str = setting("ca", metavar="LANG")
    """Code or English name of the language to translate to."""
    source_column: str | None = setting(None, metavar="NAME")
    """Column or key of the source sentence, if it is not found automatically: its name, or its number from 1 without a
    header."""
    target_column: str | None = setting(None, metavar="NAME")
    """Column or key of the target sentence, if it is not found automatically."""
    dataset_config: str | None = setting(None, metavar="NAME")
    """Configuration of a Hugging Face dataset."""
    dataset_split: str = setting("train", metavar="NAME")
    """Split of a Hugging Face dataset."""
    dataset_streaming: bool = False
    """Read a Hugging Face dataset row by row, without storing it first."""
    limit: int | None = setting(None, metavar="N", within=COUNT)
    """Read only the first N pairs of the text."""
    instruction: str | None = setting(None, metavar="TEXT", may_be_empty=True)
    """Instruction of every prompt; without it the text's own (Alpaca's instruction), or one made from the languages."""

    def first_text(self, path: str) -> TextSource:
        """Return the text at `path`, read as these options say."""
        return TextSource(path=path, **self._options())

    def second_text(self, path: str, target: str | None = None) -> TextSource:
        """Return a second text, such as the calibration text, which the same options describe.

        `target`, `limit` and `dataset_streaming` belong to the first text alone.
        """
        more: dict[str, Any] = {"target": target, "limit": None, "dataset_streaming": False}
        return TextSource(path=path, **{**self._options(), **more})

    def _options(self) -> dict[str, Any]:
        names = [item.name for item in dataclasses.fields(TextSource) if item.name != "path"]
        return {name: getattr(self, name) for name in names if hasattr(self, name)}


@dataclass(frozen=True, kw_only=True)
class DropOptions(Checked):
    """What cleaning drops of a text."""

    GROUP: ClassVar[str] = "text"

    min_words: int = setting(4, metavar="N", within=WHOLE)
    """Translations with fewer words on a side are dropped; pairs with an instruction of another kind are kept."""
    drop_placeholders: bool = setting(True, off_help="Keep pairs with format placeholders")  # noqa: FBT003
    """Drop pairs with format placeholders such as %s or {name}."""
    drop_markup: bool = setting(True, off_help="Keep pairs with tags, entities or web addresses")  # noqa: FBT003
    """Drop pairs with tags, entities or web addresses."""


@dataclass(frozen=True, kw_only=True)
class CleaningOptions(DropOptions):
    """Whether a text is cleaned, and of what."""

    clean: bool = setting(True, off_help="Keep all pairs. Without this flag, the text is cleaned as in a run")  # noqa: FBT003
    """Clean the text first, as a run does: short translations, placeholders, markup and repeated sources are dropped."""


@dataclass(frozen=True, kw_only=True)
class TextSource(CleaningOptions, TextOptions):
    """Where text is read from, and how. `ks_lottery.corpus.source.read_text` reads it whole.

    Cleaning is for the text that `tune`, `inspect` and `evaluate` are given by its name.
    """

    path: str = setting(first=True)
    """File (TSV, CSV, JSONL, Alpaca JSON, PO, MO, TMX, XLIFF, or one of two line-aligned files; also .gz or .xz), the name or
    folder of a Hugging Face dataset, or the embedded catalogs."""


@dataclass(frozen=True, kw_only=True)
class PromptOptions(Checked):
    """How a text is shown to the model."""

    GROUP: ClassVar[str] = "text"

    template: str = setting("alpaca", metavar="PROMPT")
    """Prompt: alpaca (this project's form of it), alpaca-stanford and alpaca-single (the published forms), plain, labels,
    question, text-first, request, chat (the tokenizer's own chat template), or your own text with {source} and, if you like,
    {instruction}, {source_language} and {target_language}; mixed for each sentence in one of five, mixed:FILE in one of a
    file's (a JSON list)."""


@dataclass(frozen=True, kw_only=True)
class PatchPromptOptions(Checked):
    """How a text is shown to a model with a patch, which may have a prompt of its own."""

    GROUP: ClassVar[str] = "text"

    template: str | None = setting(None, metavar="PROMPT")
    """Prompt: alpaca, alpaca-stanford, alpaca-single, plain, labels, question, text-first, request, chat, mixed, mixed:FILE, or
    your own text with {instruction} and {source}. Unless given, the patch's own prompt if it has one, else alpaca."""

    @property
    def shown_as(self) -> str:
        """The template that is used: the given one, else the usual one."""
        return self.template or PromptOptions.template

    def with_prompt(self, prompt: str | None) -> Self:
        """Return the settings with the prompt of a patch as template, unless one is given; with None, the usual one."""
        return self if self.template is not None else replace(self, template=prompt or PromptOptions.template)


@dataclass(frozen=True, kw_only=True)
class ModelOptions(Checked):
    """How a model is loaded and where it runs."""

    GROUP: ClassVar[str] = "how it runs"

    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the frozen body; auto takes bfloat16 where the processor has it. Trained rows are float32."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where the model runs; auto takes a GPU where there is one."""
    trust_remote_code: bool = False
    """Run the Python code in the checkpoint's folder, with your rights. Only with this flag or setting; no preset sets it."""


@dataclass(frozen=True, kw_only=True)
class SeedOption(Checked):
    """The seed."""

    GROUP: ClassVar[str] = "how it runs"

    seed: int = setting(0, metavar="N", within=SEED)
    """Seed for all random choices."""


@dataclass(frozen=True, kw_only=True)
class BatchOption(Checked):
    """How many sentences a model gets at a time."""

    GROUP: ClassVar[str] = "how it runs"

    batch_size: int = setting(16, metavar="N", within=COUNT)
    """Sentences at a time."""


@dataclass(frozen=True, kw_only=True)
class PrefixOption(Checked):
    """What the prompts of a text share."""

    GROUP: ClassVar[str] = "how it runs"

    share_prefix: bool = setting(True, off_help=AGAIN)  # noqa: FBT003
    """Compute the common beginning of the prompts only once."""


@dataclass(frozen=True, kw_only=True)
class BootstrapOptions(Checked):
    """Intervals from resampled sentences."""

    GROUP: ClassVar[str] = "intervals"

    confidence: float = setting(0.95, metavar="P", within=LEVEL)
    """Level of the intervals."""
    resamples: int = setting(2000, metavar="N", within=WHOLE)
    """Bootstrap resamples of sentences behind each interval."""


@dataclass(frozen=True, kw_only=True)
class TranslationOptions(Checked):
    """The search for a translation."""

    GROUP: ClassVar[str] = "translation"

    num_beams: int = setting(4, metavar="N", within=COUNT)
    """Beams of the search; 1 is greedy."""
    max_new_tokens: int = setting(256, metavar="N", within=COUNT)
    """Longest translation in tokens."""


@dataclass(frozen=True, kw_only=True)
class StepOptions(Checked):
    """One step of a training."""

    GROUP: ClassVar[str] = "training"

    batch_size: int = setting(8, metavar="N", within=COUNT)
    """Sentence pairs per batch on each device; the authors' scripts have steps of 128 in all."""
    gradient_accumulation: int = setting(1, metavar="N", within=COUNT)
    """Batches added up before a step."""
    warmup_ratio: float = setting(0.03, metavar="P", within=Range(low=0, high=1, below=True))
    """Share of the steps in which the learning rate rises; it then falls along a cosine."""
    max_grad_norm: float = setting(1.0, metavar="X", within=Range(low=0, high=1e30))
    """Gradients are clipped to this norm; 0 clips nothing."""
    weight_decay: float = setting(0.0, metavar="X", within=STRENGTH)
    """Weight decay of the trained parameters only. Off by default, because it also changes rows whose token is not in the
    batch."""
    share_prefix: bool = setting(True, off_help=AGAIN)  # noqa: FBT003
    """Compute the common beginning of the prompts once a batch instead of once a sentence."""
    gradient_checkpointing: bool = False
    """Compute activations again instead of keeping them: less memory, more time; switches share_prefix off."""


@dataclass(frozen=True, kw_only=True)
class OutputOptions(Checked):
    """What a command prints."""

    json: bool = False
    """Print one JSON object instead of tables."""
