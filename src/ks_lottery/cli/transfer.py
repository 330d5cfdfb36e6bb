"""The command `transfer`: the tuned values of tickets in a patch of their own, which is partial transfer."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def add(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    parser.add_argument("model", help="the base that the patch was made on")
    parser.add_argument("patch", help="folder of a patch, such as embed tuning leaves")
    parser.add_argument("--tickets", required=True, metavar="FILE", help="JSON file that select wrote")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write; new or empty")
    parser.add_argument("--force", action="store_true", help="take the patch although it was made on other weights")


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from ks_lottery.checkpoint.patch import RowPatch
    from ks_lottery.models.load import open_checkpoint
    from ks_lottery.store.files import new_folder
    from ks_lottery.tickets.tickets import Tickets
    from ks_lottery.tuning.transfer import transfer

    checkpoint = open_checkpoint(arguments.model)
    patch, tickets = RowPatch.open(Path(arguments.patch)), Tickets.open(Path(arguments.tickets))
    small = transfer(checkpoint, patch, tickets, force=arguments.force)
    with new_folder(Path(arguments.out)) as folder:
        small.save(folder)
    absent = len(tickets) - len(small)
    missing = f"; {absent:,} tickets are rows that the patch leaves as they were" if absent else ""
    sys.stdout.write(f"{len(small):,} of {len(patch):,} rows written to {arguments.out}{missing}\n")
    return 0
