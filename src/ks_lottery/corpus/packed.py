"""Files of text on disk, plain or packed (.gz, .xz): opened for their bytes, unpacked to a bounded size."""

from __future__ import annotations

import io
import lzma
import stat
import tempfile
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Protocol

    class _Readable(Protocol):
        def read(self, size: int, /) -> bytes: ...


PACKED: dict[str, Callable[[], Any]] = {
    ".gz": lambda: zlib.decompressobj(wbits=31),
    ".xz": lambda: lzma.LZMADecompressor(memlimit=1 << 29),
}
"""Ending of a packed file to what unpacks one of its members."""

LARGEST_UNPACKED = 1 << 36
"""Bytes that a packed file may unpack to (64 GiB), read piece by piece."""

LARGEST_WHOLE = 200_000_000
"""Bytes of a file that is read as a whole: catalogs (PO, MO) and XLIFF."""

FREE, RATIO = 1 << 26, 100
"""Beyond 64 MiB, a file may unpack to 100 times its size: text packs to a third or a twentieth."""

CHUNK = 1 << 16
"""Bytes that are read at a time."""


def ending_of(path: Path) -> str:
    """Return the ending that tells the format, in small letters, without that of the packing.

    >>> ending_of(Path("a.en-ca.TSV.gz"))
    '.tsv'
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    while suffixes and suffixes[-1] in PACKED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def check_file(path: Path) -> None:
    """Refuse what is not a regular file, before it is opened: to open a pipe can wait for ever.

    Raises
    ------
    UserError
        When it does not exist, or is a folder, a pipe, a socket or a device.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        if path.is_symlink():
            raise UserError(f"text file {path} is a link to a file that does not exist: give the file") from error
        raise UserError(f"text file {path} does not exist") from error
    except (OSError, ValueError) as error:
        raise UserError(f"text file {path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if stat.S_ISDIR(mode):
        raise UserError(f"text file {path} is a folder: give a file in it")
    if not stat.S_ISREG(mode):
        raise UserError(f"text file {path} is not a regular file: save its content to one")


@contextmanager
def opened(path: Path) -> Generator[IO[bytes]]:
    """Open a file for its bytes, unpacked.

    Raises
    ------
    UserError
        When it is not a regular file or cannot be read, or a packed file is damaged or unpacks to more than a text can have.
    """
    check_file(path)
    new = PACKED.get(path.suffix.lower())
    try:
        with path.open("rb") as handle:
            yield handle if new is None else io.BufferedReader(_Unpacked(handle, path, new), CHUNK)
    except (EOFError, lzma.LZMAError, zlib.error) as error:
        raise UserError(f"{path} is not a whole packed file ({error}): get it again") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error


def whole(path: Path, source: _Readable) -> bytes:
    """Return all bytes of an opened file.

    Raises
    ------
    UserError
        When there are more than `LARGEST_WHOLE`.
    """
    parts: list[bytes] = []
    total = 0
    while part := source.read(CHUNK):
        parts.append(part)
        total += len(part)
        if total > LARGEST_WHOLE:
            raise _too_large(path)
    return b"".join(parts)


def _too_large(path: Path) -> UserError:
    return UserError(
        f"{path} has more than the {LARGEST_WHOLE:,} bytes that are read of such a file: split it, or convert it to TSV"
    )


@contextmanager
def unpacked(path: Path) -> Generator[Path]:
    """Yield a plain file with the same content, for a library that opens files itself.

    Raises
    ------
    UserError
        As `opened`, and when the content has more bytes than `LARGEST_WHOLE`.
    """
    if path.suffix.lower() not in PACKED:
        check_file(path)
        if path.stat().st_size > LARGEST_WHOLE:
            raise _too_large(path)
        yield path
        return
    with tempfile.TemporaryDirectory() as scratch:
        plain = Path(scratch) / "plain"
        with opened(path) as handle:
            plain.write_bytes(whole(path, handle))
        yield plain


class _Unpacked(io.RawIOBase):
    """The content of a packed file with one or more members, one after the other, and zeros between them or none."""

    def __init__(self, handle: IO[bytes], path: Path, new: Callable[[], Any]) -> None:
        super().__init__()
        self._handle, self._path, self._new = handle, path, new
        self._member: Any = None
        self._members, self._input, self._read, self._written = 0, b"", 0, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]  (any buffer of bytes)
        view = memoryview(buffer).cast("B")
        while (member := self._member or self._begin()) is not None:
            data = member.decompress(self._input, len(view))
            self._input = getattr(member, "unconsumed_tail", b"")  # lzma keeps its own
            if member.eof:
                self._input, self._member = member.unused_data, None
            elif not data and not self._more():
                raise EOFError("it ends too early")
            if data:
                view[: len(data)] = data
                self._count(len(data))
                return len(data)
        return 0

    def _begin(self) -> Any:
        """Return what unpacks the next member; None at the end of the file."""
        while True:
            if self._members:
                self._input = self._input.lstrip(b"\0")
            if self._input or not self._more():
                break
        if not self._input:
            if not self._members:
                raise EOFError("it is empty")
            return None
        self._member = self._new()
        self._members += 1
        return self._member

    def _more(self) -> bool:
        self._input = self._handle.read(CHUNK)
        self._read += len(self._input)
        return bool(self._input)

    def _count(self, size: int) -> None:
        self._written += size
        if self._written > LARGEST_UNPACKED or self._written > max(FREE, RATIO * self._read):
            raise UserError(
                f"{self._path} unpacks to more than {self._written - size:,} bytes from {self._read:,}, which no text does: "
                "unpack it yourself if you trust it"
            )
