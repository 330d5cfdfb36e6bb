"""Files of text, plain or packed (.gz, .xz), line by line, and pairs from two that are line-aligned."""

from __future__ import annotations

import gzip
import lzma
import shutil
import tempfile
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ks_lottery.corpus.corpus import Pair
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Generator, Iterable, Iterator

    from ks_lottery.corpus.reading import Request

PACKED: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".xz": lzma.open}
"""Ending of a packed file to what opens it."""


def ending_of(path: Path) -> str:
    """Return the ending that tells the format, in small letters, without that of the packing.

    >>> ending_of(Path("a.en-ca.TSV.gz"))
    '.tsv'
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    while suffixes and suffixes[-1] in PACKED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


@contextmanager
def opened(path: Path) -> Generator[IO[bytes]]:
    """Open a file for its bytes, unpacked.

    Raises
    ------
    UserError
        When it cannot be opened, or a packed file is damaged.
    """
    opener = PACKED.get(path.suffix.lower(), open)
    try:
        with opener(path, "rb") as handle:
            yield handle
    except (EOFError, lzma.LZMAError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path} is not a whole packed file: get it again") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error


@contextmanager
def unpacked(path: Path) -> Generator[Path]:
    """Yield a plain file with the same content, for a library that opens files itself."""
    if path.suffix.lower() not in PACKED:
        yield path
        return
    with tempfile.TemporaryDirectory() as scratch:
        plain = Path(scratch) / path.stem
        with opened(path) as packed, plain.open("wb") as handle:
            shutil.copyfileobj(packed, handle)
        yield plain


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    r"""Yield line numbers from 1 and lines of a UTF-8 file, split at \n alone, without \r\n.

    Raises
    ------
    UserError
        When a line is not UTF-8 (named by its number), or a packed file is damaged.
    """
    with opened(path) as handle:
        for number, raw in enumerate(handle, start=1):
            try:
                yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise UserError(f"{path}, line {number} is not UTF-8: convert the file to UTF-8") from error


def read_lines(request: Request, left_out: Counter[str]) -> Iterable[Pair]:  # noqa: ARG001 (every line is a pair)
    """Read two line-aligned files."""
    if request.target is None:
        raise UserError(f"{request.path} is one of two line-aligned files: give the other one as text.target")
    source = [line.strip() for _, line in numbered_lines(request.path)]
    target = [line.strip() for _, line in numbered_lines(request.target)]
    if len(source) != len(target):
        raise UserError(
            f"{request.path} has {len(source):,} lines and {request.target} has {len(target):,}: they are not line-aligned"
        )
    return [Pair(s, t) for s, t in zip(source, target, strict=True)]
