"""Settings of the commands that read a text or train on it: inspect, tune, transfer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence  # noqa: TC003 (types of fields are read at run time)
from dataclasses import dataclass, fields
from typing import Any, Literal

from ks_lottery.config.checked import Checked
from ks_lottery.config.choices import DEFAULT_MODEL, METHODS, PRESETS, QUANTIZATIONS, TEXT_RULES
from ks_lottery.config.fields import setting
from ks_lottery.config.groups import (
    CleaningOptions,
    ModelOptions,
    OutputOptions,
    PromptOptions,
    SeedOption,
    StepOptions,
    TextOptions,
)
from ks_lottery.config.presets import tune_preset
from ks_lottery.config.ranges import COUNT, FACTOR, LEVEL, WHOLE
from ks_lottery.config.settings import TrainConfig

METHOD_MEANINGS = {
    name: f"{method.trains} (lr {method.learning_rate:g}, {method.epochs:g} epochs)" for name, method in METHODS.items()
}
"""Method of tuning to what it trains, with the paper's learning rate and epochs."""

INITS = {
    "auto": "subwords for tokens that are found automatically, mean for others",
    "mean": "the mean of all rows of its side",
    "subwords": "the mean of the rows of the tokens that its text had before",
    "description": "the mean of the rows of the tokens of a description",
}
"""From which values the row of a new token starts."""


@dataclass(frozen=True, kw_only=True)
class InspectSettings(CleaningOptions, TextOptions, PromptOptions, OutputOptions):
    """Settings of the command `inspect` and of the call of that name."""

    text: str = setting(positional=True, metavar="TEXT", first=True)
    """File or Hugging Face dataset of parallel text, as for training."""
    model: str = setting(DEFAULT_MODEL, metavar="MODEL")
    """Model whose tokenizer is used; a folder, GGUF file, hub id, or the demo's."""
    max_tokens: int = setting(512, metavar="N", group="text", within=COUNT)
    """Longest example in tokens."""
    examples: int = setting(3, metavar="N", within=WHOLE)
    """Number of examples to show."""


@dataclass(frozen=True, kw_only=True)
class TuneOptions(ModelOptions, SeedOption, PromptOptions):
    """What the command `tune`, the call of that name and `TuneSpec` have in common."""

    method: str = setting("embed", choices=METHOD_MEANINGS, metavar="METHOD")
    """Method of tuning."""
    by: str | None = setting(None, choices=TEXT_RULES, metavar="RULE")
    """For partial, in place of tickets: rule that chooses the rows at the original model, in one pass over the text at most;
    gradient-sum where neither is given."""
    size: int | None = setting(None, metavar="N", within=COUNT)
    """Number of rows to train (18 for a rule unless given); for frozen, number of first tickets to leave as they are."""
    tokens: str = setting("auto", metavar="N|auto|TOKENS")
    """Number of tokens of a token prompt (auto: one in each place of the template), or of virtual tokens of prompt and prefix
    tuning (auto: 10). For new-tokens the tokens: '<a>,<b>', a file with one a line, or auto for the pieces of the training text
    that cost most."""
    count: int | None = setting(None, metavar="N", within=COUNT)
    """Number of pieces that new-tokens finds with tokens auto."""
    init: str = setting("auto", choices=INITS)
    """Value from which the row of a new token starts."""
    description: str | None = setting(None, metavar="TEXT")
    """What new tokens mean, for init description; a file may have one behind each token and a tab."""
    side: Literal["input", "output", "both"] = "input"
    """Embedding whose rows are trained."""
    layers: str | None = setting(None, metavar="LAYERS")
    """Layers to train by full tuning: numbers (3 or 0,4-7) or names ('*.mlp.*')."""
    quantize: str | None = setting(None, choices=QUANTIZATIONS)
    """Frozen body in 4 bits (needs bitsandbytes); qlora always has it."""
    max_tokens: int = setting(512, metavar="N", group="text", within=COUNT)
    """Longest example in tokens; longer ones are left out."""
    save_every: int = setting(100, metavar="N", group="while it runs", within=COUNT)
    """Steps between checkpoints."""
    evaluate_every: int = setting(0, metavar="N", group="while it runs", within=WHOLE)
    """Steps between measurements of the validation loss; 0 for once an epoch."""
    patience: int = setting(0, metavar="N", group="while it runs", within=WHOLE)
    """Stop after N validations without a better loss, and keep the best parameters; 0 never stops."""
    report_to: Sequence[str] = setting((), metavar="TRACKER", group="while it runs")
    """Trackers: tensorboard, wandb, and others of transformers."""
    fsdp: bool = setting(False, group="while it runs")  # noqa: FBT003
    """Shard the model over processes (GPUs; FSDP2)."""


@dataclass(frozen=True, kw_only=True)
class TuneSettings(TuneOptions, CleaningOptions, TextOptions, StepOptions):
    """Settings of the command `tune`."""

    model: str = setting(positional=True, metavar="MODEL", first=True)
    """Folder, GGUF file, hub id, asset:smollm2-135m-instruct, or asset:gemma3-270m."""
    out: str | None = setting(None, metavar="DIR", writes="new folder")
    """Folder to write; runs/tune-METHOD unless given."""
    tickets: str | None = setting(None, metavar="FILE")
    """JSON file that select wrote, for partial and frozen."""
    also_rows: str | None = setting(None, metavar="FILE")
    """JSON file that select wrote: rows that new-tokens trains beside those of the tokens."""
    corpus: str | None = setting(None, metavar="TEXT", parameter="target_text")
    """Text of the target language to count tokens in, for frequency; the ending of its file name tells its format."""
    dry_run: bool = False
    """Print parameters, memory, steps and time, and train nothing."""
    train: str = setting(metavar="TEXT", group="text", first=True)
    """File or Hugging Face dataset to train on."""
    validation: str | None = setting(None, metavar="TEXT", group="text", one_of="validation")
    """Text to measure the loss on."""
    validation_share: float | None = setting(None, metavar="P", group="text", one_of="validation", within=LEVEL)
    """Share of the training text to measure the loss on, by hash."""
    preset: str | None = setting(None, choices=PRESETS, group="training")
    """Named settings of training that replace the defaults. Flags override the preset."""
    learning_rate: float | None = setting(None, metavar="LR", group="training", within=FACTOR)
    """Peak of the cosine. Unless given, the method's own in the paper; for embed and frozen one that fits width and spread
    of the model's rows, where the paper's would move nothing."""
    epochs: float | None = setting(None, metavar="N", group="training", within=FACTOR)
    """Passes over the text; the method's own number unless given."""
    fsdp_config: str | None = setting(None, metavar="FILE", group="while it runs")
    """JSON file with the Trainer's settings of FSDP."""

    @classmethod
    def preset_values(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of the preset that is given, over which all that is given goes."""
        if given.get("preset") is None:
            return {}
        training = {name: value for name, value in given.items() if name in {item.name for item in fields(TrainConfig)}}
        preset = tune_preset(given["preset"], given.get("method", cls.method), training)
        return {**preset.pop("settings"), **preset}


@dataclass(frozen=True, kw_only=True)
class TransferSettings(Checked):
    """Settings of the command `transfer`."""

    model: str = setting(positional=True, metavar="MODEL")
    """Base that the patch was made on."""
    patch: str = setting(positional=True, metavar="PATCH")
    """Folder of a patch, such as that of embed tuning."""
    tickets: str = setting(metavar="FILE")
    """JSON file that select wrote."""
    out: str = setting(metavar="DIR", writes="new folder")
    """Folder to write; new or empty."""
    allow_empty: bool = False
    """Write a patch without rows where there is nothing to transfer."""
    force: bool = False
    """Accept a patch that was made on other weights."""
