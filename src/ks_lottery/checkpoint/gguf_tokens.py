"""The vocabulary in the header of a GGUF file, with new tokens."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from ks_lottery.checkpoint.file_bytes import read_at
from ks_lottery.checkpoint.gguf_header import ARRAY, STRING, Cursor
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from ks_lottery.checkpoint.added_tokens import AddedTokens
    from ks_lottery.checkpoint.gguf_header import GgufHeader

TOKENS, SCORES, TYPES = "tokenizer.ggml.tokens", "tokenizer.ggml.scores", "tokenizer.ggml.token_type"

UINT32, INT32, FLOAT32 = 4, 5, 6

USER_DEFINED = 4
"""Type of a token that llama.cpp finds in any text before anything else splits it, and shows in an answer."""

SCORE = -1000.0
"""Score of such a token, as llama.cpp's converter writes it; no merge may make one."""


def longer_vocabulary(header: GgufHeader, added: AddedTokens) -> dict[str, bytes]:
    """Return the values of a header that change when tokens are added: each as the bytes of its type and content.

    A token in a spare row takes the place of the name that the file has for it.

    Raises
    ------
    UserError
        When the file has no list of tokens, one of another length than its embedding, or is damaged.
    """
    names = _strings(header, TOKENS)
    if len(names) != added.base_rows:
        raise UserError(
            f"{header.file} lists {len(names):,} tokens, and its embedding has {added.base_rows:,} rows: export it as merged"
        )
    kinds = _numbers(header, TYPES, "i") or [1] * len(names)
    scores = _numbers(header, SCORES, "f")
    if len(kinds) != len(names) or len(scores) not in {0, len(names)}:
        raise UserError(f"{header.file} is damaged: its lists of tokens have different lengths. Get it again")
    for text, token in zip(added.texts, added.ids, strict=True):
        while len(names) <= token:  # an id that nothing has yet
            names.append(f"[PAD{len(names)}]".encode())
            kinds.append(5)
            scores += [SCORE] if scores else []
        names[token], kinds[token] = text.encode("utf-8"), USER_DEFINED
        if scores:
            scores[token] = SCORE
    values = {
        TOKENS: _array(STRING, len(names)) + b"".join(struct.pack("<Q", len(name)) + name for name in names),
        TYPES: _array(INT32, len(kinds)) + struct.pack(f"<{len(kinds)}i", *kinds),
    }
    if scores:
        values[SCORES] = _array(FLOAT32, len(scores)) + struct.pack(f"<{len(scores)}f", *scores)
    size = f"{header.architecture}.vocab_size"
    if size in header.keys:
        values[size] = struct.pack("<II", UINT32, added.rows)
    return values


def _array(kind: int, count: int) -> bytes:
    return struct.pack("<IIQ", ARRAY, kind, count)


def _opened(header: GgufHeader, key: str) -> tuple[Cursor, int, int] | None:
    """Return a cursor at the first item of an array, the type of its items, and their number; None where there is none."""
    if key not in header.keys:
        return None
    cursor = Cursor(header.file)
    cursor.skip(header.keys[key][0])
    cursor.text()
    if cursor.number("I") != ARRAY:
        raise UserError(f"{header.file} is damaged: {key} is no array. Get it again")
    return cursor, cursor.number("I"), cursor.number()


def _strings(header: GgufHeader, key: str) -> list[bytes]:
    opened = _opened(header, key)
    if opened is None or opened[1] != STRING:
        raise UserError(
            f"{header.file} has no list of its tokens, to which new ones could be added: export it as merged"
        )
    cursor, _, count = opened
    return [cursor.take(cursor.number()) for _ in range(count)]


def _numbers(header: GgufHeader, key: str, code: str) -> list[float]:
    """Return the numbers of an array, empty where there is none; `code` is ``i`` or ``f``, both of 4 bytes."""
    opened = _opened(header, key)
    if opened is None:
        return []
    cursor, kind, count = opened
    if kind not in {UINT32, INT32, FLOAT32}:
        raise UserError(f"{header.file} is damaged: {key} is an array of another type. Get it again")
    raw = read_at(header.file, cursor.place, 4 * count).tobytes()
    return list(struct.unpack(f"<{count}{code}", raw))
