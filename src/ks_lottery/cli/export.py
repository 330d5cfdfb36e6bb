"""The command `export`: a patch or an adapter in the format of the program that runs it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ks_lottery.cli.streams import write
from ks_lottery.report.forms import counted

if TYPE_CHECKING:
    from ks_lottery.config.job_commands import ExportSettings


def run(settings: ExportSettings) -> int:
    """Run the command and return its exit code: 1 where a check found other answers."""
    from ks_lottery.models.formats import export
    from ks_lottery.models.load import open_checkpoint
    from ks_lottery.models.products import SavedProduct
    from ks_lottery.report.screen import Screen

    product = SavedProduct.open(settings.patch)
    checkpoint = open_checkpoint(settings.base or product.base_name)
    result = export(
        checkpoint, product.patch or product.folder, Path(settings.out), to=settings.to, dtype=settings.dtype,
        rank=settings.rank, check=settings.check, force=settings.force, tell=lambda sentence: write(f"{sentence}\n"),
    )  # fmt: skip
    what = "an adapter" if product.patch is None else counted(len(product.patch), "row")
    size = sum(result.files.values())
    write(f"{settings.out} holds {what} of {checkpoint.name} ({settings.to}, {size:,} bytes)\n")
    for note in result.notes:
        write(f"{note}\n")
    Screen().show([] if result.check is None else result.check.sections())
    return 0 if result.check is None or result.check.passed else 1
