"""The text of an XML file with a mark for each character that XML forbids, so that one bad unit does not spoil a file."""

from __future__ import annotations

import codecs
import re
from typing import IO, TYPE_CHECKING

from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

# lxml can continue after such a character (``recover``), but then it drops text and says nothing.
MARK = "\U0010fffd\U000ffffd\U0010fffd"
"""What is written for what cannot be read: characters for private use, which no text has in this order."""

CHUNK = 1 << 16
"""Bytes that are read at a time."""

_TOKEN = re.compile(
    r"<!\[CDATA\[|\]\]>|<!--|-->"
    r"|&(?:[a-zA-Z_:][\w.:-]{0,63};|#\d{1,20};|#x[\da-fA-F]{1,20};)?"
    r"|[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
)
_OPEN = re.compile(r"(?:&[^;&<\s]{0,80}|<[!\[CDAT-]{0,8}|\]{1,2}|-{1,2})\Z")
_DECLARED = re.compile(r"\A(\s*<\?xml[^>]{0,200}?)\s+encoding\s*=\s*(?:\"([^\"]*)\"|'([^']*)')")
_PREDEFINED = frozenset({"&amp;", "&lt;", "&gt;", "&quot;", "&apos;"})
_MARKS = ((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"), (codecs.BOM_UTF8, "utf-8-sig"),
          (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"), (b"<\0", "utf-16-le"),
          (b"\0<", "utf-16-be"))  # fmt: skip


class MendedXml:
    """A file of XML, read as UTF-8 bytes with `MARK` in the place of what XML forbids.

    Marked are characters and references to characters that XML does not have, a bare ampersand, and every entity but the five
    of XML; comments and CDATA keep their ampersands.

    Parameters
    ----------
    handle
        The file, opened for its bytes.
    path
        What errors call it.

    Raises
    ------
    UserError
        When its encoding is not known; in reading, when a line is not in that encoding.
    """

    def __init__(self, handle: IO[bytes], path: Path) -> None:
        self._handle, self._path = handle, path
        self._head = handle.read(CHUNK)
        self._encoding = self._told()
        try:
            "a".encode(self._encoding)  # refuses what is no encoding of text
            self._decoder = codecs.getincrementaldecoder(self._encoding)("strict")
        except (LookupError, ValueError) as error:
            raise UserError(
                f"{path} says that its encoding is {self._encoding[:40]!r}, which is not known: convert the file to UTF-8"
            ) from error
        self._text, self._inside, self._line = "", "", 1
        self._starts, self._ended = True, False

    def _told(self) -> str:
        """Return the encoding that the file's first bytes or its declaration tell."""
        for mark, name in _MARKS:
            if self._head.startswith(mark):
                return name
        found = _DECLARED.search(self._head[:400].decode("latin-1"))
        return (found[2] or found[3] or "") if found else "utf-8"

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, about `size` of them; all that is left where it is negative, and none at the end."""
        parts: list[bytes] = []
        total = 0
        while not self._ended and (size < 0 or total < max(size, 1)):
            part = self._some()
            parts.append(part)
            total += len(part)
        return b"".join(parts)

    def _some(self) -> bytes:
        raw, self._head = self._head or self._handle.read(CHUNK), b""
        self._ended = not raw
        try:
            text = self._decoder.decode(raw, final=self._ended)
        except ValueError as error:  # UnicodeError, as some decoders raise it
            end = error.start if isinstance(error, UnicodeDecodeError) else 0
            line = self._line + raw[:end].count(b"\n")
            raise UserError(
                f"{self._path}, line {line} is not {self._encoding}: convert the file to UTF-8, or get it again"
            ) from error
        self._line += text.count("\n")
        text = self._text + text
        if self._starts and text:
            text, self._starts = _DECLARED.sub(r"\1", text, count=1), False
        cut = len(text)
        if not self._ended and (rest := _OPEN.search(text, max(0, len(text) - 90))):
            cut = rest.start()
        self._text = text[cut:]
        return _TOKEN.sub(self._mended, text[:cut]).encode()

    def _mended(self, found: re.Match[str]) -> str:
        token = found[0]
        if token in {"<![CDATA[", "<!--"}:
            self._inside = self._inside or token
        elif (token, self._inside) in {("]]>", "<![CDATA["), ("-->", "<!--")}:
            self._inside = ""
        elif token[0] == "&":
            return token if self._inside or token in _PREDEFINED or _is_character(token) else MARK + token[1:]
        elif len(token) == 1:
            return MARK
        return token


def _is_character(reference: str) -> bool:
    """Say whether a reference such as ``&#x41;`` is to a character that XML has."""
    if not reference.startswith("&#"):
        return False
    digits = reference[2:-1]
    code = int(digits[1:], 16) if digits[0] == "x" else int(digits)
    return code in {0x9, 0xA, 0xD} or 0x20 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or 0x10000 <= code <= 0x10FFFF
