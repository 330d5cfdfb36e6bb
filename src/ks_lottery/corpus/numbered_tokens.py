"""Tokens that a template names by their id, ``{token:N}``: rows for which the tokenizer has no text."""

from __future__ import annotations

import re

from ks_lottery.errors import UserError

_NUMBERED = re.compile(r"\{token:([0-9]{1,10})\}")


def template_parts(template: str) -> list[str | int]:
    """Split a template of text into text and ids of tokens, without empty text.

    Examples
    --------
    >>> template_parts("{token:7}{token:8} {source}")
    [7, 8, ' {source}']
    """
    pieces = _NUMBERED.split(template)
    parts: list[str | int] = [int(piece) if place % 2 else piece for place, piece in enumerate(pieces)]
    return [part for part in parts if part != ""]


def numbered_tokens(template: str) -> list[int]:
    """Return the ids that a template names, in their order.

    >>> numbered_tokens("{token:7}{source}{token:12}")
    [7, 12]
    """
    return [part for part in template_parts(template) if isinstance(part, int)]


def by_number(token: int) -> str:
    """Return how a template names a token by its id.

    >>> by_number(7)
    '{token:7}'
    """
    return f"{{token:{token}}}"


def check_numbered(template: str, rows: int) -> None:
    """Refuse a template that names a token without a row.

    Raises
    ------
    UserError
        For the first such token.
    """
    for token in numbered_tokens(template):
        if token >= rows:
            raise UserError(
                f"template: {by_number(token)} is token {token}, but the model's embedding has only {rows:,} rows: give an "
                f"id below {rows}"
            )
