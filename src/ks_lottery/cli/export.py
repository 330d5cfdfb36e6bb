"""The command `export`: a patch as an adapter or a merged model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ks_lottery.cli.streams import write

if TYPE_CHECKING:
    from ks_lottery.config.job_commands import ExportSettings


def run(settings: ExportSettings) -> int:
    """Run the command and return its exit code."""
    from ks_lottery.checkpoint.patch import RowPatch
    from ks_lottery.models.export import FORMATS
    from ks_lottery.models.load import open_checkpoint

    patch = RowPatch.open(Path(settings.patch))
    checkpoint = open_checkpoint(settings.base or patch.base["name"])
    FORMATS[settings.to](checkpoint, patch, Path(settings.out), force=settings.force)
    write(f"{settings.out} holds {len(patch):,} rows of {checkpoint.name} ({settings.to})\n")
    return 0
