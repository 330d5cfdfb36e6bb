"""The header of a GGUF file, checked against the file's size before anything is made from its numbers.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ks_lottery.checkpoint.file_bytes import read_at, size_of
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MAGIC = b"GGUF"

VERSIONS = (2, 3)
"""Versions that transformers reads."""

STRING, ARRAY = 8, 9
"""Types of values that have no fixed length."""

FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""Types of values with a fixed length, for `struct`."""

WINDOW = 1 << 20
"""Bytes that are read at a time."""

MOST_AXES = 8
"""Axes of a tensor; GGUF has four."""


@dataclass(frozen=True, kw_only=True)
class GgufTensor:
    """A tensor of a GGUF file.

    Parameters
    ----------
    kind
        Its type, a number of `gguf.GGMLQuantizationType`.
    shape
        Its axes, rows first: (V, d) for a matrix of V rows. The file has them the other way round.
    start, size
        Where its bytes begin in the file, and how many they are.
    """

    kind: int
    shape: tuple[int, ...]
    start: int
    size: int


@dataclass(frozen=True, kw_only=True)
class GgufHeader:
    """What a GGUF file says before its tensors' bytes.

    Parameters
    ----------
    file
        The file.
    version
        Version of the format, 2 or 3.
    alignment
        Each tensor begins at a multiple of it, counted from the end of the header.
    about
        The values by their keys; None in place of an array.
    keys
        Where each key, its type and its value are in the file: first byte, and the one after the last.
    tensors
        The tensors by name, in the order of the file.
    """

    file: Path
    version: int
    alignment: int
    about: Mapping[str, Any]
    keys: Mapping[str, tuple[int, int]]
    tensors: Mapping[str, GgufTensor]

    @property
    def architecture(self) -> str:
        """Name of the architecture, such as ``llama``."""
        return str(self.about["general.architecture"])

    def setting(self, name: str) -> int | None:
        """Return a whole number among the settings of the architecture; None where there is none."""
        value = self.about.get(f"{self.architecture}.{name}")
        return value if type(value) is int else None

    @property
    def elements(self) -> int:
        """Number of values of all tensors."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors.values())


class Cursor:
    """Reads a file from its beginning, and refuses to read beyond its end.

    Parameters
    ----------
    file
        The file.
    """

    def __init__(self, file: Path) -> None:
        self.file, self.size, self.place = file, size_of(file), 0
        self._window, self._begin = b"", 0

    def skip(self, length: int) -> None:
        """Pass over some bytes."""
        if length > self.size - self.place:
            raise UserError(f"{self.file} is truncated or damaged: its header goes beyond its end. Get it again")
        self.place += length

    def take(self, length: int) -> bytes:
        """Return the next bytes."""
        begin = self.place
        self.skip(length)
        if begin < self._begin or self.place > self._begin + len(self._window):
            self._begin = begin
            self._window = read_at(self.file, begin, min(max(length, WINDOW), self.size - begin)).tobytes()
        return self._window[begin - self._begin : self.place - self._begin]

    def number(self, code: str = "Q") -> Any:
        """Return the next number, of a format of `struct`."""
        return struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))[0]

    def text(self) -> str:
        """Return the next string."""
        try:
            return self.take(self.number()).decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"{self.file} is damaged: its header has a name that is not UTF-8. Get it again") from error


def read_gguf(file: Path) -> GgufHeader:
    """Read the header of a GGUF file, and check that the file has what it describes.

    Raises
    ------
    UserError
        When it is no GGUF file, is truncated, or its header claims more than there is.
    """
    cursor = Cursor(file)
    if cursor.size < len(MAGIC) or cursor.take(len(MAGIC)) != MAGIC:
        raise UserError(f"{file} is not a GGUF file")
    version, count, values = cursor.number("I"), cursor.number(), cursor.number()
    if version not in VERSIONS:
        raise UserError(f"{file} is GGUF of version {version}, and versions 2 and 3 are read: convert it again")
    about: dict[str, Any] = {}
    keys: dict[str, tuple[int, int]] = {}
    for _ in range(values):  # each takes bytes, so that a wrong count ends at the end of the file
        start, name = cursor.place, cursor.text()
        about[name] = _value(cursor)
        keys[name] = (start, cursor.place)
    alignment = about.get("general.alignment", 32)
    tensors = _tensors(cursor, count, alignment)
    _check_sizes(file, about, {name: tensor.shape for name, tensor in tensors.items()})
    return GgufHeader(file=file, version=version, alignment=alignment, about=about, keys=keys, tensors=tensors)


def _value(cursor: Cursor) -> Any:
    """Return a number or a string; of an array, which is passed over, None."""
    kind = cursor.number("I")
    if kind in FORMATS:
        return cursor.number(FORMATS[kind])
    if kind == STRING:
        return cursor.text()
    if kind != ARRAY:
        raise UserError(f"{cursor.file} is damaged: its header has a value of the unknown type {kind}. Get it again")
    kind, count = cursor.number("I"), cursor.number()
    if kind in FORMATS:
        cursor.skip(count * struct.calcsize("<" + FORMATS[kind]))
    elif kind == STRING:
        for _ in range(count):
            cursor.skip(cursor.number())
    else:
        raise UserError(f"{cursor.file} has an array of arrays in its header, which is not read: convert it again")
    return None


def _tensors(cursor: Cursor, count: int, alignment: Any) -> dict[str, GgufTensor]:
    """Return each tensor; its bytes must be inside the file."""
    from gguf import GGML_QUANT_SIZES

    known = {int(kind): sizes for kind, sizes in GGML_QUANT_SIZES.items()}
    listed: dict[str, GgufTensor] = {}
    for _ in range(count):
        name, axes = cursor.text(), cursor.number("I")
        if axes > MOST_AXES or name in listed:
            raise UserError(f"{cursor.file} is damaged: tensor {name} has a header that cannot be read. Get it again")
        shape = tuple(cursor.number() for _ in range(axes))
        kind, offset = cursor.number("I"), cursor.number()
        block, size = known.get(kind, (0, 0))
        if not block or math.prod(shape) % block:
            raise UserError(f"{cursor.file}: tensor {name} is of a type that is not known: convert the file again")
        listed[name] = GgufTensor(kind=kind, shape=shape[::-1], start=offset, size=math.prod(shape) // block * size)
    if type(alignment) is not int or not 0 < alignment <= WINDOW:
        raise UserError(f"{cursor.file} is damaged: its alignment is {alignment}. Get it again")
    begin = -(-cursor.place // alignment) * alignment
    tensors = {name: replace(tensor, start=begin + tensor.start) for name, tensor in listed.items()}
    for name, tensor in tensors.items():
        end = tensor.start + tensor.size
        if end > cursor.size:
            raise UserError(
                f"{cursor.file} is truncated: tensor {name} ends at byte {end:,}, the file at {cursor.size:,}"
            )
    return tensors


def _check_sizes(file: Path, about: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> None:
    """Refuse a model that is larger by its settings than by its tensors: memory would be taken by the settings."""
    kind = about.get("general.architecture")
    if not isinstance(kind, str):
        raise UserError(f"{file} does not say which architecture it has: convert it again")
    elements = sum(math.prod(shape) for shape in shapes.values())
    layers, width, inner, rows = (
        size if type(size) is int else 1
        for size in (
            about.get(f"{kind}.{name}")
            for name in ("block_count", "embedding_length", "feed_forward_length", "vocab_size")
        )
    )
    if min(layers, width, inner, rows) < 0 or layers > len(shapes) or width * max(inner, rows, layers) > elements:
        raise UserError(
            f"{file} is damaged: its settings ({layers:,} layers, width {width:,}, {inner:,} inner, {rows:,} rows) are larger "
            f"than its {len(shapes):,} tensors. Get it again"
        )
