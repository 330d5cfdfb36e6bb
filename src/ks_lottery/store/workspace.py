"""Hidden folders in which files are written before they take their place; those of processes that were killed are removed."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

NAME = re.compile(r"\..{1,40}\.[0-9a-f]{16}\.ks-lottery-tmp")
"""Name of a workspace: that of what is written, cut, and a random number."""


@contextmanager
def workspace(path: Path) -> Generator[Path]:
    """Make a hidden folder beside `path`, and remove it when the block ends.

    The process holds a lock on it, which the system releases when the process ends in any way. So the workspaces of killed
    processes are known, and are removed whenever something of the same name is written.

    Parameters
    ----------
    path
        What is written. Its folder is made where it is missing.

    Raises
    ------
    OSError
        When the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep_beside(path)
    folder, lock = _locked(path)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def sweep_beside(path: Path) -> None:
    """Remove the workspaces that killed processes left while they wrote `path`."""
    for folder in _siblings(path):
        _sweep(folder)


def sweep(folder: Path) -> None:
    """Remove the workspaces that killed processes left anywhere in a folder of ours."""
    for parent, names, _ in os.walk(folder):
        for name in [name for name in names if is_workspace(name)]:
            names.remove(name)
            _sweep(folder.__class__(parent) / name)


def is_workspace(name: str) -> bool:
    """Say whether a file has the name of a workspace."""
    return NAME.fullmatch(name) is not None


def _lead(path: Path) -> str:
    return f".{path.name[:40]}."


def _siblings(path: Path) -> list[Path]:
    try:
        return [at for at in path.parent.iterdir() if at.name.startswith(_lead(path)) and is_workspace(at.name)]
    except OSError:
        return []


def _locked(path: Path) -> tuple[Path, int]:
    """Make a workspace and lock it; again if another process took it for that of a killed one before it was locked."""
    while True:
        folder = path.parent / f"{_lead(path)}{secrets.token_hex(8)}.ks-lottery-tmp"
        folder.mkdir()
        with suppress(FileNotFoundError):
            lock = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(lock).st_ino == folder.stat().st_ino:
                    return folder, lock
            except BlockingIOError:
                pass
            except OSError:  # a file system without locks: nobody can sweep there either
                return folder, lock
            os.close(lock)


def _sweep(folder: Path) -> None:
    """Remove a workspace whose process has ended."""
    with suppress(OSError):
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)
