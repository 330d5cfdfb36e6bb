"""The command `transfer`: the tuned values of tickets in a patch of their own, which is partial transfer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ks_lottery.cli.streams import write

if TYPE_CHECKING:
    from ks_lottery.config.train_commands import TransferSettings


def run(settings: TransferSettings) -> int:
    """Run the command and return its exit code."""
    from ks_lottery.checkpoint.patch import RowPatch
    from ks_lottery.models.load import open_checkpoint
    from ks_lottery.store.manifest import manifest
    from ks_lottery.store.work_folder import WorkFolder
    from ks_lottery.tickets.tickets import Tickets
    from ks_lottery.tuning.transfer import transfer

    checkpoint = open_checkpoint(settings.model)
    patch, tickets = RowPatch.open(Path(settings.patch)), Tickets.open(Path(settings.tickets))
    small = transfer(checkpoint, patch, tickets, force=settings.force, allow_empty=settings.allow_empty)
    made_from = {
        "base": checkpoint.describe(), "patch": patch.content, "tickets": tickets.fingerprint,
    }  # fmt: skip
    work, about = WorkFolder(Path(settings.out)), manifest("transfer", made_from=made_from, settings=small.settings)
    if not work.is_done(about):
        with work.publish(about) as folder:
            small.save(folder)
    absent = len(tickets) - len(small)
    others = "row of the other ticket" if absent == 1 else f"rows of the other {absent:,} tickets"
    missing = f"; the patch does not change the {others}" if absent else ""
    write(f"{settings.out} contains {len(small):,} of {len(patch):,} rows{missing}\n")
    return 0
