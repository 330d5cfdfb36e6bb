"""The public call `export`: a patch in a format that other programs load, and what loading it there showed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ks_lottery.config.choices import EXPORTS
from ks_lottery.config.job_commands import ExportSettings
from ks_lottery.config.values import checks_names
from ks_lottery.errors import UserError
from ks_lottery.models.export import to_merged, to_peft
from ks_lottery.models.export_check import ExportCheck, check_export
from ks_lottery.models.export_gguf import to_gguf, to_gguf_lora
from ks_lottery.models.export_lora import to_lora
from ks_lottery.models.export_parts import patch_of
from ks_lottery.models.load import open_checkpoint
from ks_lottery.report.notebook import Shown
from ks_lottery.report.section import Section
from ks_lottery.store.files import read_json
from ks_lottery.store.work_folder import MANIFEST_FILE

if TYPE_CHECKING:
    from collections.abc import Callable

    from ks_lottery.checkpoint.patch import RowPatch
    from ks_lottery.models.export_parts import Base
    from ks_lottery.models.merged import Tuned

FORMATS: dict[str, Callable[..., Path]] = {
    "peft": to_peft,
    "lora": to_lora,
    "merged": to_merged,
    "gguf": to_gguf,
    "gguf-lora": to_gguf_lora,
}
"""Name of a format to the function that writes it."""

RANKED = ("lora", "gguf-lora")
"""Formats that have a rank."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Export(Shown):
    """A patch in a format that other programs load.

    Parameters
    ----------
    folder
        The folder that was written.
    to
        Its format.
    files
        File to its bytes.
    notes
        Sentences on what the user should know.
    check
        What loading it showed; None where that was not asked for.
    """

    folder: Path
    to: str
    files: dict[str, int]
    notes: tuple[str, ...]
    check: ExportCheck | None

    def __repr__(self) -> str:
        return f"Export({self.folder}: {self.to}, {sum(self.files.values()):,} bytes)"

    def sections(self) -> list[Section]:
        """Return size and notes as sentences, and the check as a table."""
        about = f"{self.folder}: {self.to}, {sum(self.files.values()):,} bytes"
        return [Section(sentences=[about, *self.notes]), *([] if self.check is None else self.check.sections())]


@checks_names
def export(
    checkpoint: Base,
    patch: Tuned,
    folder: str | Path,
    *,
    to: str,
    dtype: str = ExportSettings.dtype,
    rank: int | None = ExportSettings.rank,
    check: bool = ExportSettings.check,
    force: bool = ExportSettings.force,
    tell: Callable[[str], None] | None = None,
) -> Export:
    """Write a patch, or a PEFT adapter merged, in a format that other programs load.

    Parameters
    ----------
    checkpoint
        The base: a folder, GGUF file, hub id, an opened checkpoint, or a loaded model.
    patch
        The patch, or its folder; for ``merged`` also a PEFT adapter, or its folder.
    folder
        Where to write; new, empty, or the same export, which is then left as it is.
    to
        ``peft``, ``lora``, ``merged``, ``gguf`` or ``gguf-lora``: see `to_peft`, `to_lora`, `to_merged`, `to_gguf` and
        `to_gguf_lora`.
    dtype
        Type of a merged model; see `to_merged`.
    rank
        Rank of an approximation, for ``lora`` and ``gguf-lora``; None (the default) for the exact LoRA.
    check
        Load the export where it is meant to run and compare its answers with the patch's; off by default.
    force
        Accept a patch of another base; off by default.
    tell
        Called with type and size of a merged model before it is written.

    Returns
    -------
    Export
        The folder, what the user should know, and what the check showed.

    Raises
    ------
    UserError
        When the format cannot have the patch, what loads it for the check is not installed, or `folder` holds something else.
    """
    if to not in FORMATS:
        raise UserError(f"`to` is {to!r}, but must be one of {', '.join(EXPORTS)}")
    if rank is not None and to not in RANKED:
        raise UserError(f"`rank` is for {' and '.join(RANKED)}, and {to} has none: leave it out")
    if dtype != "auto" and to != "merged":
        raise UserError(f"`dtype` is for merged, and {to} has none: leave it out")
    more: dict[str, Any] = {} if rank is None else {"rank": rank}
    if to == "merged":
        more = {"dtype": dtype, "tell": tell}
        if check:
            patch = patch_of(cast("Any", patch))  # an adapter has no reference that it could be compared with
    else:
        patch = patch_of(cast("Any", patch))
    checkpoint, folder = open_checkpoint(checkpoint), Path(folder).expanduser()
    FORMATS[to](checkpoint, patch, folder, force=force, **more)
    files = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
    notes = tuple(read_json(folder / MANIFEST_FILE).get("notes", ()))
    shown = check_export(checkpoint, cast("RowPatch", patch), folder, to, rank) if check else None
    return Export(folder=folder, to=to, files=files, notes=notes, check=shown)
