"""The command `export`: a patch as an adapter or a merged model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ks_lottery.config.choices import EXPORTS

if TYPE_CHECKING:
    import argparse


def add(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    parser.add_argument("patch", help="folder of a patch, such as runs/demo/partial")
    parser.add_argument("out", help="folder to write; new or empty")
    formats = "; ".join(f"{name}: {what}" for name, what in EXPORTS.items())
    parser.add_argument("--to", required=True, choices=tuple(EXPORTS), help=formats)
    parser.add_argument("--base", help="the base model, if it is no longer where the run found it")
    parser.add_argument("--force", action="store_true", help="put the patch onto a base that it was not made on")


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from ks_lottery.checkpoint.patch import RowPatch
    from ks_lottery.models.export import FORMATS
    from ks_lottery.models.load import open_checkpoint

    patch = RowPatch.open(Path(arguments.patch))
    checkpoint = open_checkpoint(arguments.base or patch.base["name"])
    FORMATS[arguments.to](checkpoint, patch, Path(arguments.out), force=arguments.force)
    sys.stdout.write(f"{len(patch)} rows of {checkpoint.name} written to {arguments.out} ({arguments.to})\n")
    return 0
