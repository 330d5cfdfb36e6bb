"""Settings of the commands that find tickets and say what they are: scan, select, overlap, explain, alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ks_lottery.config.choices import COMPARISONS, CORRECTIONS, EXCLUSIONS, RANKINGS, UNITS
from ks_lottery.config.fields import setting
from ks_lottery.config.groups import OutputOptions, PromptOptions, SeedOption, TextOptions
from ks_lottery.config.ranges import SHARE, WHOLE


@dataclass(frozen=True, kw_only=True)
class ScanSettings(OutputOptions):
    """Settings of the command `scan` and of the call of that name."""

    base: str = setting(positional=True, metavar="BASE", first=True)
    """Model before: folder, file, hub id or GGUF."""
    tuned: str = setting(positional=True, metavar="TUNED", first=True)
    """Model after, or a PEFT adapter or row patch over the base."""
    units: str = setting("embedding", choices=UNITS, first=True)
    """What is compared."""
    tensors: str | None = setting(None, metavar="GLOB", first=True)
    """Only tensors whose name matches, such as '*.mlp.*'."""
    compare_as: str | None = setting(None, choices=COMPARISONS)
    """Type in which two checkpoints are compared; coarser unless given, and float32 for a full tuning that tune made."""
    ignore_tokenizer: bool = False
    """Compare by id although the tokenizers differ."""
    alpha: float = setting(0.05, metavar="P", within=SHARE)
    """Threshold of p."""
    correction: str = setting("none", choices=CORRECTIONS)
    """Correction of p for the number of units."""
    top: int = setting(30, metavar="N", within=WHOLE)
    """Number of units to show."""
    out: str | None = setting(None, metavar="FILE", writes="file")
    """Parquet file to write, with every unit."""
    quantile_rows: int = setting(200, metavar="N", within=WHOLE)
    """Number of first units, by p, whose distributions before and after are written, which the report shows."""
    fail_above: float | None = setting(None, metavar="D", within=SHARE)
    """Exit with 1 when the D of a unit is above this."""
    quiet: bool = False
    """Print nothing but errors."""


@dataclass(frozen=True, kw_only=True)
class SelectSettings(TextOptions, PromptOptions, SeedOption):
    """Settings of the command `select` and of the call of that name."""

    scan: str = setting(positional=True, metavar="SCAN", first=True)
    """Parquet file that scan wrote."""
    out: str = setting(metavar="FILE", writes="file")
    """JSON file to write the tickets to."""
    alpha: float | None = setting(None, metavar="P", one_of="rule", within=SHARE)
    """All rows with p below this; 1 selects every row. Without any rule: 0.05."""
    interval: tuple[float, float] | None = setting(None, metavar="LOW HIGH", one_of="rule", within=SHARE)
    """All rows with LOW <= p < HIGH."""
    top_k: int | None = setting(None, metavar="K", one_of="rule", within=WHOLE)
    """The first K rows by the ranking."""
    by: str = setting("ks", choices=RANKINGS, metavar="RANKING")
    """Ranking of the rows."""
    without: str | None = setting(None, choices=EXCLUSIONS, metavar="ROWS")
    """Rows to leave out: template, those of the prompt template and the instruction in the corpus."""
    correction: str = setting("none", choices=CORRECTIONS)
    """Correction of p for the number of rows."""
    allow_empty: bool = False
    """Write the file although no row is a ticket."""
    tensor: str | None = setting(None, metavar="NAME")
    """Tensor to select from, where the scan has several."""
    attribution: str | None = setting(None, metavar="DIR")
    """Folder of the embed tuning that recorded lca and gradient; embed, beside the scan, unless given."""
    model: str | None = setting(None, metavar="MODEL")
    """Model whose tokenizer reads the corpus; the scan's base unless given."""
    corpus: str | None = setting(None, metavar="TEXT", group="text", first=True)
    """Text that frequency, occurrence, template and random-reachable look at; the gradients are measured there, on
    the original model."""


@dataclass(frozen=True, kw_only=True)
class OverlapSettings(OutputOptions):
    """Settings of the command `overlap`."""

    tickets: tuple[str, ...] = setting(positional=True, metavar="TICKETS", first=True)
    """JSON files that select or a run wrote, each FILE or NAME=FILE, such as ca=runs/ca/tickets.json."""
    seeds_of: tuple[str, ...] = setting((), metavar="FILE")
    """JSON files of the tickets of two or more training seeds of one setting: the ceiling of any overlap."""
    top: int = setting(30, metavar="N", within=WHOLE)
    """Number of rows to show side by side."""
    force: bool = False
    """Compare by row although the bases differ."""


@dataclass(frozen=True, kw_only=True)
class ExplainSettings(TextOptions, OutputOptions):
    """Settings of the command `explain` and of the call of that name."""

    tickets: str = setting(positional=True, metavar="TICKETS", first=True)
    """JSON file that select or a run wrote."""
    scan: str | None = setting(None, metavar="FILE")
    """Scan that the tickets are from; scan.parquet, beside them, unless given."""
    attribution: str | None = setting(None, metavar="DIR")
    """Folder of the embed tuning that recorded lca, gradient and origins; embed, beside the scan, unless given."""
    tensor: str | None = setting(None, metavar="NAME")
    """Tensor that the tickets are rows of, where the scan has several."""
    model: str | None = setting(None, metavar="MODEL")
    """Model whose tokenizer reads the corpus; the scan's base unless given."""
    top: int = setting(30, metavar="N", within=WHOLE)
    """Number of tickets to show."""
    out: str | None = setting(None, metavar="FILE", writes="file")
    """JSON file to write, with every ticket."""
    corpus: str | None = setting(None, metavar="TEXT", group="text", first=True)
    """Text of the target language to rank tokens by frequency in."""


@dataclass(frozen=True, kw_only=True)
class AlikeSettings(OutputOptions):
    """Settings of the command `alike` and of the call `compare_tunings`."""

    embed: str = setting(positional=True, metavar="EMBED", first=True)
    """Folder of the embed-tuned patch."""
    partial: str = setting(positional=True, metavar="PARTIAL", first=True)
    """Folder of the partially tuned patch of the same base."""
    tickets: str | None = setting(None, metavar="FILE")
    """Rows to compare; all that both patches change, unless given."""
    level: float = setting(0.05, metavar="P", within=SHARE)
    """Level of this test; the alpha of table 6 is the one that selected the tickets."""
    side: Literal["input", "output"] | None = None
    """Embedding, where both patches change both."""
    top: int = setting(10, metavar="N", within=WHOLE)
    """Number of rows to show, those that differ most."""
    out: str | None = setting(None, metavar="FILE", writes="file")
    """JSON file to write, with every row."""
