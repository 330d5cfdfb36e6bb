"""What a saved artifact says of itself: kind, format, versions, and the digests of what it was made from."""

from __future__ import annotations

import hashlib
import json
import os
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_lottery.errors import UserError, shortened

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT = 1
"""Version of every saved schema; a reader refuses a higher one."""

_PACKAGES = ("ks-lottery", "numpy", "torch", "transformers", "tokenizers")


def versions() -> dict[str, str]:
    """Return the versions of the packages that decide what comes out."""
    return {name: metadata.version(name) for name in _PACKAGES}


def manifest(kind: str, *, made_from: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a saved artifact.

    Parameters
    ----------
    kind
        Noun of the artifact, for example ``"row-patch"``.
    made_from
        Content fingerprints (SHA-256, hexadecimal) of what it was made from.
    settings
        Every setting that the content depends on.
    """
    return {
        "kind": kind,
        "format": FORMAT,
        "made_from": dict(made_from),
        "settings": dict(settings),
        "versions": versions(),
    }


def with_article(noun: str) -> str:
    """Return a noun with "a" or "an".

    >>> with_article("export"), with_article("row-patch")
    ('an export', 'a row-patch')
    """
    return f"{'an' if noun[:1] in set('aeiou') else 'a'} {noun}"


def located(name: str) -> str:
    """Return how a manifest names a model: one on this machine by its absolute path, however it was typed.

    So ``base``, ``./base`` and ``/abs/base`` make one manifest, and what is saved finds its base from any working directory.
    """
    try:
        path = Path(name).expanduser()
        return str(Path(os.path.abspath(path))) if path.exists() else name  # noqa: PTH100 (a link keeps its own name)
    except (OSError, ValueError):
        return name


def check_manifest(path: Path, content: object, kind: str) -> None:
    """Refuse the manifest of another kind of artifact, or of a newer format than this version reads.

    Raises
    ------
    UserError
        Naming `path`.
    """
    about: dict[str, Any] = content if isinstance(content, dict) else {}
    if about.get("kind") != kind:
        there = about.get("kind")
        other = "" if there is None else f" (its kind is {shortened(there)})"
        raise UserError(f"{path} is not {with_article(kind)} file{other}: give another file")
    version = about.get("format", 0)
    if not isinstance(version, int) or version > FORMAT:
        raise UserError(f"{path} was written by a newer ks-lottery: update this one")


def digest_bytes(content: bytes) -> str:
    """Return the SHA-256 of `content` in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def digest_json(content: object) -> str:
    """Return the SHA-256 of the canonical JSON of `content`."""
    return digest_bytes(json.dumps(content, sort_keys=True, ensure_ascii=False).encode())


def digest_file(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal, read in blocks."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
