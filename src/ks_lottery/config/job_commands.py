"""Settings of the commands around a run: demo, run, translate, export."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from ks_lottery.config.checked import Checked
from ks_lottery.config.choices import BUDGETS, DEMO_MODEL, DEMOS, EXPORTS, MOST_RANK, PRESETS
from ks_lottery.config.fields import setting
from ks_lottery.config.groups import ModelOptions, SeedOption, TextOptions
from ks_lottery.config.keys import flat
from ks_lottery.config.presets import run_preset
from ks_lottery.config.ranges import COUNT, Range
from ks_lottery.config.settings import RunConfig
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, kw_only=True)
class DemoSettings(SeedOption):
    """Settings of the command `demo`."""

    target_language: str = setting(TextOptions.target_language, metavar="LANG", first=True)
    """Language to translate to, a code that the catalogs have."""
    model: str = setting(DEMO_MODEL, choices=DEMOS, metavar="MODEL", first=True)
    """Embedded model."""
    budget: str = setting("default", choices=BUDGETS, first=True)
    """Size of the demo."""
    out: str | None = setting(None, metavar="DIR", first=True, writes="folder")
    """Folder of the run; runs/demo unless given, and runs/demo-MODEL for another model than the default."""

    @property
    def folder(self) -> str:
        """Folder of the run."""
        return self.out or ("runs/demo" if self.model == DEMO_MODEL else f"runs/demo-{self.model}")


@dataclass(frozen=True, kw_only=True)
class RunSettings(RunConfig):
    """Settings of the command `run`: the config of a run, and its folder."""

    out: str = setting(metavar="DIR", first=True, writes="folder")
    """Folder of the run."""
    preset: str | None = setting(None, choices=PRESETS, first=True)
    """Named settings that replace the defaults. The defaults are ours, for a small model and a short training. The config file
    and flags override the preset."""

    @classmethod
    def preset_values(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values, by dotted name, of the preset that is given, which all that is given overrides."""
        if given.get("preset") is None:
            return {}
        is_free = "train.batch_size" in given and "train.gradient_accumulation" not in given
        preset = run_preset(given["preset"], *([given["train.batch_size"]] if is_free else []))
        return dict(flat(preset))

    @property
    def config(self) -> RunConfig:
        """The config, without the folder."""
        return RunConfig(**{item.name: getattr(self, item.name) for item in fields(RunConfig)})


@dataclass(frozen=True, kw_only=True)
class TranslateSettings(ModelOptions):
    """Settings of the command `translate`."""

    model: str = setting(positional=True, metavar="MODEL")
    """Folder of a run, such as runs/demo, or one that tune or export wrote; or any model."""
    sentences: tuple[str, ...] = setting((), positional=True, metavar="SENTENCE", may_be_empty=True)
    """Sentences to translate; each line of standard input, unless given."""
    patch: str | None = setting(None, metavar="DIR", one_of="product")
    """Row patch of the model."""
    adapter: str | None = setting(None, metavar="DIR", one_of="product")
    """PEFT adapter of the model."""
    method: str = setting("partial", metavar="METHOD")
    """Method of the run whose rows are used: partial, transfer, embed, ..."""
    compare: bool = False
    """Show the original model's answer beside it."""
    template: str | None = setting(None, metavar="PROMPT")
    """Prompt in place of the patch's own or that of the training: the name of one (not mixed), or your own text with
    {source}."""
    source_language: str | None = setting(None, metavar="LANG")
    """Language of the sentences, in place of that of the training; needed for a model without a record of it."""
    target_language: str | None = setting(None, metavar="LANG")
    """Language to translate to, in place of that of the training."""
    instruction: str | None = setting(None, metavar="TEXT", may_be_empty=True)
    """Instruction of the prompt, in place of that of the training."""
    num_beams: int | None = setting(None, metavar="N", within=COUNT)
    """Beams of the search; unless given, those of the run, and 4 without a run."""
    max_new_tokens: int | None = setting(None, metavar="N", within=COUNT)
    """Longest translation in tokens; unless given, that of the run, and 256 without a run."""

    def __post_init__(self) -> None:
        """Refuse an empty sentence, which only a file or standard input may have, as an empty line."""
        super().__post_init__()
        for number, sentence in enumerate(self.sentences, start=1):
            if not sentence.strip():
                raise UserError(f"`sentences`: sentence {number} is empty. Give text, or leave it out.")


@dataclass(frozen=True, kw_only=True)
class ExportSettings(Checked):
    """Settings of the command `export`."""

    patch: str = setting(positional=True, metavar="PATCH")
    """Folder of a patch, such as runs/demo/partial, or of a PEFT adapter that tune wrote."""
    to: str = setting(choices=EXPORTS)
    """Format."""
    out: str = setting(metavar="DIR", writes="new folder")
    """Folder to write; new or empty."""
    base: str | None = setting(None, metavar="MODEL")
    """Base model, if it is no longer where the training found it."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type of a merged model; auto takes the base's, and bfloat16 for a GGUF file, whose float32 would be twice as large."""
    rank: int | None = setting(None, within=Range(kind=int, low=1, high=MOST_RANK))
    """Rank of a LoRA below the number of rows: an approximation, whose error is shown."""
    check: bool = False
    """Load the export where it is meant to run, as far as that is installed, and compare its answers with the patch's."""
    force: bool = False
    """Put the patch onto a base that it was not made on."""
