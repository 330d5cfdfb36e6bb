"""Two models compared: opens both sides, checks that their ids mean the same, and scans them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from ks_lottery.checkpoint.codes import check_values
from ks_lottery.checkpoint.patch import RowPatch
from ks_lottery.config.ticket_commands import ScanSettings
from ks_lottery.config.values import checks_names
from ks_lottery.errors import UserError
from ks_lottery.models.sources import is_full_tuning_of, is_gguf, open_rows, open_source, stands_alone
from ks_lottery.models.vocabulary import check_same, vocabulary_of_source
from ks_lottery.report.forms import counted
from ks_lottery.report.notebook import Shown
from ks_lottery.report.progress import progress_bar
from ks_lottery.report.section import Section
from ks_lottery.tickets.blocks import scan_sources
from ks_lottery.tickets.pairs import pairing_of
from ks_lottery.tickets.scan_changes import changes, kinds_section, still_sentence
from ks_lottery.tickets.scan_groups import groups

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from transformers import PreTrainedModel

    from ks_lottery.checkpoint.tensors import Source
    from ks_lottery.models.load import LoadedModel
    from ks_lottery.models.vocabulary import Vocabulary
    from ks_lottery.tickets.scan import Scan

    Model = str | Path | Source | LoadedModel | PreTrainedModel


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Compared(Shown):
    """A scan, the token strings of its rows where a tokenizer was there, and the rows that one side alone has.

    ``kinds`` has what kind of text each token is. ``only`` has, by ``base`` and ``tuned``, a row and its token string (empty
    where that is not known) for each such row. ``notes`` say which files beside the two models were not read.
    """

    scan: Scan
    tokens: tuple[str, ...] | None
    only: Mapping[str, Sequence[tuple[int, str]]]
    notes: tuple[str, ...] = ()
    kinds: tuple[str, ...] | None = None

    def __repr__(self) -> str:
        return f"Compared({self.scan!r})"

    def has_statistic_above(self, limit: float | None) -> bool:
        """Say whether the D of any unit is above `limit`; None is no limit."""
        return limit is not None and bool((self.scan.statistics > limit).any())

    def check_complete(self) -> None:
        """Refuse a verdict on all tensors while some were not compared.

        Raises
        ------
        UserError
            Naming the first of them.
        """
        names = self.scan.uncompared
        if names:
            shown = f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
            raise UserError(
                f"{counted(len(names), 'tensor')} not compared ({shown}), so that `fail_above` has no verdict: give models "
                "with the same tensors, or choose those that count with `tensors`"
            )

    def as_dict(
        self, alpha: float = ScanSettings.alpha, correction: str = ScanSettings.correction, top: int = ScanSettings.top
    ) -> dict[str, Any]:
        """Return in plain values what `sections` shows.

        These are summary, what moved by tensor and layer, the `top` units with the smallest p, the rows of one side alone, and
        `changes`.
        """
        return {
            "summary": self.scan.summary(alpha, correction),
            "groups": groups(self.scan, self.scan.passing(alpha, correction).tolist()),
            "top": self.scan.top(top, self.tokens),
            "rows": {
                f"only_in_{side}": [{"row": row, "token": token} for row, token in rows]
                for side, rows in self.only.items()
            },
            "notes": list(self.notes),
            "changes": changes(self.scan, alpha, self.tokens, self.kinds),
        }

    def sections(
        self, alpha: float = ScanSettings.alpha, correction: str = ScanSettings.correction, top: int = ScanSettings.top
    ) -> list[Section]:
        """Return the `top` units with the smallest p as a table, the summary in sentences, and the moves by kind of token."""
        sections = self.scan.sections(alpha, correction, top=top, tokens=self.tokens, only=self.only)
        changed = changes(self.scan, alpha, self.tokens, self.kinds)
        still = still_sentence(changed) if self.scan.moved.any() else ""
        sections += [kinds_section(changed, moved_alone=True), Section(sentences=[still] if still else [])]
        return [*sections, Section(sentences=list(self.notes))] if self.notes else sections

    def save(self, path: str | Path) -> Path:
        """Write the scan with its token strings to `path`, and return the path."""
        return self.scan.save(path, self.tokens, self.kinds)


def compare(
    base: Model,
    tuned: Model | RowPatch,
    *,
    units: str = "embedding",
    tensors: str | None = None,
    alpha: float = 0.05,
    compare_as: str | None = None,
    ignore_tokenizer: bool = False,
    quantile_rows: int = ScanSettings.quantile_rows,
    tick: Callable[[int, int], None] | None = None,
) -> Compared:
    """Open two models, check that their ids mean the same, and scan them; see `scan`."""
    before, after = _opened(base, tuned, units)
    for side in (before, after):
        check_values(side, units, tensors)
    vocabulary = other = vocabulary_of_source(before)
    if not isinstance(after, RowPatch) and (after.folder != before.folder or type(after) is not type(before)):
        other = vocabulary_of_source(after)
        if not ignore_tokenizer:
            check_same(vocabulary, other, (before.name, after.name))
    if compare_as is None and is_full_tuning_of(after, before):
        compare_as = "float32"
    result = scan_sources(
        before, after, units=units, tensors=tensors, alpha=alpha, compare_as=compare_as, quantile_rows=quantile_rows, tick=tick
    )  # fmt: skip
    vocabularies = [part for part in result.parts if result.is_vocabulary(part)]
    rows = max((part.count for part in vocabularies), default=0)
    tokens = None if vocabulary is None else _strings(vocabulary, range(rows))
    kinds = None if vocabulary is None else vocabulary.kinds_of(rows)
    only = {
        side: [*zip(more, _strings(strings, more), strict=True)]
        for side, strings, count in (("base", vocabulary, "removed"), ("tuned", other, "added"))
        for more in [range(rows, rows + max((getattr(part, count) for part in vocabularies), default=0))]
    }
    notes = tuple(dict.fromkeys(note for side in (before, after) for note in getattr(side, "notes", ())))
    return Compared(scan=result, tokens=tokens, kinds=kinds, only=only, notes=notes)


def _opened(base: Model, tuned: Model | RowPatch, units: str) -> tuple[Source, Source | RowPatch]:
    """Open both sides. Sizes are compared by headers before a GGUF file is converted, which rows alone do not need."""
    if stands_alone(tuned) and (is_gguf(base) or is_gguf(tuned)):
        sides = open_rows(base), open_rows(tuned)
        if not any(isinstance(side, RowPatch) for side in sides):
            before, after = cast("tuple[Source, Source]", sides)
            pairing_of(before, after, "output" if units == "output" else "embedding", None)
            if units in {"embedding", "output"}:
                return before, after
    before = open_source(base)
    if isinstance(before, RowPatch):
        raise UserError(f"{base} is a row patch: give its base first, and the patch as the second")
    return before, open_source(tuned, before)


def _strings(vocabulary: Vocabulary | None, rows: range) -> tuple[str, ...]:
    """Return the token string of each row, for rows beyond the tokenizer's an empty one."""
    shown = () if vocabulary is None else vocabulary.shown
    return tuple(shown[row] if row < len(shown) else "''" for row in rows)


@checks_names
def scan(
    base: Model,
    tuned: Model | RowPatch,
    *,
    units: str = ScanSettings.units,
    tensors: str | None = ScanSettings.tensors,
    alpha: float = ScanSettings.alpha,
    compare_as: str | None = ScanSettings.compare_as,
    ignore_tokenizer: bool = ScanSettings.ignore_tokenizer,
    quantile_rows: int = ScanSettings.quantile_rows,
    progress: bool = False,
) -> Scan:
    """Test what fine-tuning changed: each unit of `base` against the same unit of `tuned` (section 3.1 of the paper).

    A unit is a row of a matrix, one output unit, or a vector as a whole; its coordinates are the sample. The KS count and p
    are exact at any width, under any ties.

    Parameters
    ----------
    base, tuned
        Folder or file of safetensors, pickled tensors (``.bin``, tensors alone are unpickled), GGUF file, hub id, or an opened
        `Checkpoint`. A loaded model stands for the checkpoint that it came from, a model of transformers for its weights in
        memory. `tuned` may be a PEFT adapter over `base` (LoRA, trainable tokens) or a `RowPatch` too.
    units
        ``embedding`` (the default), ``output``, ``matrix-rows`` or ``all``.
    tensors
        Glob pattern for the names of tensors; None (the default) for all.
    alpha
        Significance level that the advice of a scan without power is measured for: where no unit has p < alpha, the moves are
        scaled and tested again, and the scan says by which factor they fall short.
    compare_as
        Type in which two checkpoints are compared: ``coarser`` (of their two types; what rounding to it hides does not count as
        change) or ``float32`` (every stored value as it is; rounding that happened to one side alone counts as change). By
        default ``float32`` for a full tuning of ours over its base, and ``coarser`` for other pairs. Patches and adapters are
        always compared in float32.
    ignore_tokenizer
        Compare by id although the two tokenizers mean different strings by the same ids; off by default.
    quantile_rows
        Number of first units that moved, by p, whose distributions before and after the scan keeps; 200 by default.
    progress
        Show a bar on standard output; off by default.

    Returns
    -------
    Scan
        One entry a unit. Rows that only one side has are listed in its parts and not compared.

    Raises
    ------
    UserError
        When one of the two cannot be read, they do not fit each other, or a unit holds NaN.
    """
    with progress_bar("scan", show=progress) as tick:
        return compare(
            base,
            tuned,
            units=units,
            tensors=tensors,
            alpha=alpha,
            compare_as=compare_as,
            ignore_tokenizer=ignore_tokenizer,
            quantile_rows=quantile_rows,
            tick=tick,
        ).scan
