"""Bytes of a file: only regular files are opened, nothing is mapped, and every failure is one sentence that names the file."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np

from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt


POINTER, LONGEST_POINTER = b"version https://git-lfs", 1024
"""How a file begins that Git LFS puts in place of a large one, and the bytes that it has at most."""


def path_of(name: str | Path) -> Path:
    """Return the path that a user typed, with ``~`` replaced by the home folder.

    Raises
    ------
    UserError
        When the system cannot have a file of that name.
    """
    try:
        path = Path(name).expanduser()
        path.exists()
    except RuntimeError as error:  # the home folder of an unknown user
        raise UserError(f"{name}: the home folder is not known: give the whole path") from error
    except (OSError, ValueError) as error:
        raise unreadable(Path(name), error) from error
    if "\0" in str(name):
        raise UserError(f"{name!r} is not the name of a file: it contains a zero byte. Give another name")
    return path


def unreadable(file: Path, error: Exception) -> UserError:
    """Return the sentence for an error of the system while a file was read."""
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return UserError(f"{file} cannot be read: {reason}")


def is_there(file: Path) -> bool:
    """Say whether a folder has an entry of this name, and refuse one that is not a regular file.

    Raises
    ------
    UserError
        When it is a folder, a link to nothing, a pipe or a device, or the system refuses to say.
    """
    try:
        mode = file.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        if file.is_symlink():
            raise UserError(f"{file} is a link to a file that does not exist: get the file again") from None
        return False
    except (OSError, ValueError) as error:
        raise unreadable(file, error) from error
    if not stat.S_ISREG(mode):
        raise UserError(f"{file} is not a regular file: get the file again")
    return True


def size_of(file: Path) -> int:
    """Return the bytes of a regular file.

    Raises
    ------
    UserError
        When there is none, it cannot be read, or it is a pointer of Git LFS in place of the file.
    """
    if not is_there(file):
        raise UserError(f"{file} does not exist")
    size = file.stat().st_size
    if len(POINTER) <= size <= LONGEST_POINTER and read_at(file, 0, len(POINTER)).tobytes() == POINTER:
        raise UserError(f"{file} is a pointer of Git LFS, not the file itself: get it with git lfs pull")
    return size


def read_at(file: Path, start: int, length: int) -> npt.NDArray[np.uint8]:
    """Read `length` bytes of a file from byte `start`.

    Raises
    ------
    UserError
        When the file is shorter than that, or cannot be read.
    """
    return read_spans(file, [(start, length)])


def read_spans(file: Path, spans: Iterable[tuple[int, int]]) -> npt.NDArray[np.uint8]:
    """Read several spans of a file, each a first byte and a length, one after the other.

    The bytes are read and not mapped: a file that is cut off meanwhile ends a process that has it mapped.

    Raises
    ------
    UserError
        When the file is shorter than that, or cannot be read.
    """
    spans = list(spans)
    try:
        # Without waiting: a pipe that took the place of the file would never answer.
        with os.fdopen(os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb", buffering=0) as handle:
            last = max((start + length for start, length in spans), default=0)
            if os.fstat(handle.fileno()).st_size < last:  # before anything is allocated
                raise _shorter(file)
            buffer = np.empty(sum(length for _, length in spans), np.uint8)
            done = 0
            for start, length in spans:
                _fill(cast("Any", handle), file, start, memoryview(cast("Any", buffer))[done : done + length])
                done += length
    except (OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise unreadable(file, error) from error
    return buffer


def _fill(handle: BinaryIO, file: Path, start: int, view: memoryview) -> None:
    handle.seek(start)
    done = 0
    while done < len(view):
        got = cast("Any", handle).readinto(view[done:])
        if not got:
            raise _shorter(file)
        done += got


def _shorter(file: Path) -> UserError:
    return UserError(f"{file} became shorter while it was read: wait until it is written, and start again")
