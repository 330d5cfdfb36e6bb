"""What a certification reads from files: patches by name, the scan of base against tuned, and its own saved result."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_lottery.certification.candidates import ORIGINAL, OTHER_VOCABULARY, TUNED
from ks_lottery.certification.certificate import Certificate
from ks_lottery.checkpoint.added_tokens import refuse_new_tokens
from ks_lottery.checkpoint.patch import RowPatch
from ks_lottery.config.measure_commands import CertifyOptions
from ks_lottery.corpus.corpus import Corpus
from ks_lottery.errors import UserError
from ks_lottery.store.manifest import manifest
from ks_lottery.tickets.blocks import scan_sources
from ks_lottery.tickets.scan import Scan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ks_lottery.certification.spec import CertifySpec
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
        When the saved scan is that of another base, patch or tensor, or the patch adds tokens.
    """
    refuse_new_tokens(tuned.added, OTHER_VOCABULARY)
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


def certification_manifest(
    spec: CertifySpec, checkpoint: Checkpoint, tuned: RowPatch, scan: Scan, corpus: Corpus
) -> dict[str, Any]:
    """Return what a certification depends on, by content: the same one is known by it, before anything is computed."""
    calibration = spec.calibration
    made_from = {
        "base": checkpoint.describe(),
        "tuned": tuned.content,
        "scan": scan.fingerprint,
        "small": {name: patch.content for name, patch in spec.small.items()},
        "tickets": None if spec.tickets is None else spec.tickets.fingerprint,
        "text": corpus.fingerprint,
        "calibration": calibration.fingerprint if isinstance(calibration, Corpus) else calibration,
    }
    options = {item.name: getattr(spec, item.name) for item in fields(CertifyOptions)}
    settings = {**options, **asdict(spec.config), "epsilon": spec.epsilon}
    return json.loads(json.dumps(manifest("certification", made_from=made_from, settings=settings)))


def saved_certificate(folder: Path) -> Certificate:
    """Open the first certificate of a folder of `certify`.

    Raises
    ------
    UserError
        When there is none.
    """
    files = [folder / "certificate.json", *sorted(folder.glob("*.json"))]
    file = next((file for file in files if Certificate.files(folder, file.stem)[1].is_file()), None)
    if file is None:
        raise UserError(f"{folder} holds no certificate: give the folder that certify wrote")
    return Certificate.open(file)
