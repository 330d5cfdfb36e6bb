"""Opens what a certification needs from files: the patches by name, and the scan of base against tuned."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_lottery.certification.candidates import ORIGINAL, TUNED
from ks_lottery.checkpoint.patch import RowPatch
from ks_lottery.errors import UserError
from ks_lottery.tickets.blocks import scan_sources
from ks_lottery.tickets.scan import Scan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ks_lottery.checkpoint.reader import Checkpoint


def open_patches(folders: Sequence[str | Path]) -> dict[str, RowPatch]:
    """Open patches by the last part of their path, or by the whole path where that part names two."""
    names = [Path(folder).name for folder in folders]
    if len(set(names)) < len(names) or {ORIGINAL, TUNED} & set(names):
        names = [str(folder) for folder in folders]
    return {name: RowPatch.open(folder) for name, folder in zip(names, folders, strict=True)}


def open_small(small: Mapping[str, RowPatch | str | Path] | RowPatch | str | Path | None) -> dict[str, RowPatch]:
    """Open the patches that are certified as they are, by name."""
    if small is None:
        return {}
    if isinstance(small, RowPatch):
        return {"small": small}
    if isinstance(small, str | Path):
        return open_patches([small])
    return {name: patch if isinstance(patch, RowPatch) else RowPatch.open(patch) for name, patch in small.items()}


def scan_of_patch(checkpoint: Checkpoint, tuned: RowPatch, file: str | Path | None = None) -> Scan:
    """Scan a base against a patch, or open the saved scan of these two.

    Raises
    ------
    UserError
        When the saved scan is that of another base, patch or tensor.
    """
    if file is None:
        return scan_sources(checkpoint, tuned, units="output" if tuned.side == "output" else "embedding")
    scan = Scan.open(file)
    saved: dict[str, Any] = {
        "base": scan.made_from.get("base", {}).get("fingerprint"),
        "patch": scan.made_from.get("patch"),
    }
    if saved != {"base": checkpoint.fingerprint, "patch": tuned.content} or len(scan.parts) != 1:
        raise UserError(f"{file} does not compare {checkpoint.name} with the tuned patch: leave `scan` out")
    return scan
