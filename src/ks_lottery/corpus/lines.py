r"""Text line by line, each ended by \n alone, and pairs from two files that are line-aligned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ks_lottery.corpus.corpus import Pair
from ks_lottery.corpus.packed import opened
from ks_lottery.corpus.white_space import trimmed
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from typing import IO

    from ks_lottery.corpus.reading import Request

LONGEST_LINE = 1 << 25
"""Bytes of a line that is read (32 MiB)."""


def is_encodable(text: str) -> bool:
    r"""Say whether a text can be written as UTF-8: JSON can hold a lone surrogate, half a character, which cannot.

    >>> is_encodable("caf\u00e9"), is_encodable("\ud800")
    (True, False)
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def decoded_lines(handle: IO[bytes], name: str) -> Iterator[tuple[int, str]]:
    r"""Yield line numbers from 1 and lines of UTF-8 bytes, split at \n alone, without \r\n, in bounded memory.

    Parameters
    ----------
    handle
        Opened for its bytes.
    name
        What errors call it.

    Raises
    ------
    UserError
        When a line is not UTF-8, contains a NUL, as UTF-16 does, or is longer than `LONGEST_LINE`.
    """
    number = 0
    while raw := handle.readline(LONGEST_LINE + 1):
        number += 1
        if len(raw) > LONGEST_LINE:
            raise UserError(f"{name}, line {number} is longer than {LONGEST_LINE:,} bytes: write one sentence a line")
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"{name}, line {number} is not UTF-8: convert it to UTF-8") from error
        if "\0" in line:
            raise UserError(f"{name}, line {number} contains a NUL character, as UTF-16 does: convert it to UTF-8")
        yield number, line.removesuffix("\n").removesuffix("\r")


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file, plain or packed; see `decoded_lines`.

    Raises
    ------
    UserError
        Also when it is not a regular file, or a packed file is damaged.
    """
    with opened(path) as handle:
        yield from decoded_lines(handle, str(path))


def read_lines(request: Request, left_out: Counter[str]) -> Iterable[Pair]:  # noqa: ARG001 (every line is a pair)
    """Read two line-aligned files."""
    if request.target is None:
        raise UserError(f"{request.path} is one of two line-aligned files: give the other one as `target`")
    source = [trimmed(line) for _, line in numbered_lines(request.path)]
    target = [trimmed(line) for _, line in numbered_lines(request.target)]
    if len(source) != len(target):
        raise UserError(
            f"{request.path} has {len(source):,} lines and {request.target} has {len(target):,}: they are not line-aligned"
        )
    return [Pair(s, t) for s, t in zip(source, target, strict=True)]
