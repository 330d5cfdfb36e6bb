"""The noun `StoredStage`: a finished stage in a store, with its files and a manifest that lists them."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_lottery.errors import UserError
from ks_lottery.store.files import read_json, write_json
from ks_lottery.store.manifest import FORMAT, digest_file, digest_json
from ks_lottery.store.work_folder import MANIFEST_FILE

if TYPE_CHECKING:
    from collections.abc import Mapping

KIND = "stored-stage"
ABOUT = {
    "stage": str, "title": str, "recipe": str, "code": int, "settings": dict, "inputs": dict, "conditions": dict,
    "files": dict, "seconds": int | float, "tokens": int, "pace": str, "made": str,
}  # fmt: skip
"""What a manifest says beside kind, format and digest, and the type of each value."""


@dataclass(frozen=True)
class StoredStage:
    """A finished stage in a store.

    Parameters
    ----------
    key
        Digest of all that the result depends on; 64 hexadecimal digits.
    folder
        Its files and its manifest.
    about
        Content of the manifest: stage, title, recipe, code version, settings, inputs (each with ``key`` or None, and
        ``digest``), conditions, files (each with ``sha256`` and ``bytes``), seconds, tokens, pace, and when it was made.
    """

    key: str
    folder: Path
    about: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """Digest of its files, by which later stages name it."""
        return digest_json({name: file["sha256"] for name, file in self.about["files"].items()})

    @property
    def bytes(self) -> int:
        """Bytes of its files."""
        return sum(file["bytes"] for file in self.about["files"].values())

    @property
    def sources(self) -> set[str]:
        """Keys of the objects that it was made from."""
        return {source["key"] for source in self.about["inputs"].values() if source["key"]}

    @cached_property
    def used(self) -> float:
        """When it was made or last used, in seconds since 1970."""
        return (self.folder / MANIFEST_FILE).stat().st_mtime

    def damage(self) -> str | None:
        """Compare the files with the manifest, and return what is wrong with the first bad one; None where all are whole."""
        for name, file in self.about["files"].items():
            path = self.folder / name
            try:
                if path.is_symlink() or not path.is_file():
                    return f"{name} is missing"
                if digest_file(path) != file["sha256"]:
                    return f"{name} has other bytes than were written"
            except OSError as error:
                return f"{name} cannot be read: {error.strerror or error}"
        return None


def open_stage(folder: Path) -> StoredStage:
    """Read the manifest of a stage in the folder that is named by its key.

    Raises
    ------
    UserError
        When it is missing or damaged.
    """
    path = folder / MANIFEST_FILE
    about = read_json(path, KIND)
    content = {name: value for name, value in about.items() if name != "digest"}
    if about.get("digest") != digest_json(content) or not _is_complete(content) or content.get("key") != folder.name:
        raise UserError(f"{path} is damaged: give the command that made it again, which makes the stage again")
    return StoredStage(folder.name, folder, content)


def seal_stage(folder: Path, key: str, about: Mapping[str, Any]) -> None:
    """Write the manifest of a stage into its folder, with the digest of each file that is there."""
    files = {
        file.relative_to(folder).as_posix(): {"sha256": digest_file(file), "bytes": file.stat().st_size}
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
    content = {"kind": KIND, "format": FORMAT, "key": key, **about, "files": files}
    write_json(folder / MANIFEST_FILE, {**content, "digest": digest_json(content)})


def _is_complete(about: Mapping[str, Any]) -> bool:
    """Say whether a manifest has every entry, with values of the right types, and no number that JSON does not have."""
    if any(not isinstance(about.get(name), kind) for name, kind in ABOUT.items()):
        return False
    files = all(
        isinstance(file, dict) and isinstance(file.get("sha256"), str) and isinstance(file.get("bytes"), int)
        for file in about["files"].values()
    )
    inputs = all(
        isinstance(source, dict) and isinstance(source.get("key"), str | None) and isinstance(source.get("digest"), str)
        for source in about["inputs"].values()
    )
    outside = any(Path(name).is_absolute() or ".." in Path(name).parts for name in about["files"])
    return files and inputs and not outside and math.isfinite(about["seconds"]) and _is_json(about)


def _is_json(about: Mapping[str, Any]) -> bool:
    try:
        json.dumps(dict(about), allow_nan=False)
    except ValueError:
        return False
    return True
