"""Locks between processes that the system releases when a process ends in any way, kill -9 included."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path


@contextmanager
def file_lock(
    path: Path, *, shared: bool = False, wait: bool = True, waiting: Callable[[], None] | None = None
) -> Generator[bool]:
    """Lock a file inside a block, and make it where it is missing.

    Parameters
    ----------
    shared
        Other shared locks may be there at the same time.
    wait
        Wait for the process that has the lock.
    waiting
        Called once before waiting.

    Yields
    ------
    bool
        Whether the lock is held: False where another process has it and `wait` is False. True also where the file system has
        no locks, or the folder cannot be written: nobody can lock there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError:
        yield True
        return
    try:
        yield _lock(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, wait=wait, waiting=waiting)
    finally:
        os.close(handle)


def _lock(handle: int, kind: int, *, wait: bool, waiting: Callable[[], None] | None) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        if not wait:
            return False
        if waiting is not None:
            waiting()
        fcntl.flock(handle, kind)
    except OSError:
        return True
    return True
