"""The command `export`: a patch as an adapter or a whole model, in the format of the program that runs it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ks_lottery.cli.streams import write

if TYPE_CHECKING:
    from ks_lottery.config.job_commands import ExportSettings


def run(settings: ExportSettings) -> int:
    """Run the command and return its exit code: 1 where a check found other answers."""
    from ks_lottery.checkpoint.patch import RowPatch
    from ks_lottery.models.formats import export
    from ks_lottery.models.load import open_checkpoint
    from ks_lottery.report.screen import Screen

    patch = RowPatch.open(Path(settings.patch))
    checkpoint = open_checkpoint(settings.base or patch.base["name"])
    result = export(
        checkpoint, patch, Path(settings.out),
        to=settings.to, rank=settings.rank, check=settings.check, force=settings.force,
    )  # fmt: skip
    size = sum(result.files.values())
    write(f"{settings.out} holds {len(patch):,} rows of {checkpoint.name} ({settings.to}, {size:,} bytes)\n")
    for note in result.notes:
        write(f"{note}\n")
    Screen().show([] if result.check is None else result.check.sections())
    return 0 if result.check is None or result.check.passed else 1
