"""Tokens that a patch adds to the vocabulary of its base: their texts and ids, and how many rows they need."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ks_lottery.errors import UserError, shortened

if TYPE_CHECKING:
    from collections.abc import Mapping

SETTING = "new_tokens"
"""Key of a patch's settings."""

MOST_IDS = 1 << 22
"""Ids that a patch may have; the largest vocabularies have a sixteenth of that."""


@dataclass(frozen=True, kw_only=True)
class AddedTokens:
    """Tokens that the tokenizer of a base does not have.

    Parameters
    ----------
    texts
        Their texts, in the order of their ids.
    ids
        Their ids, ascending: the numbers that the tokenizer gives them. An id below `base_rows` has a spare row of the base.
    base_rows
        Rows V of the base's embedding.
    """

    texts: tuple[str, ...]
    ids: tuple[int, ...]
    base_rows: int

    @property
    def rows(self) -> int:
        """Rows of the embedding with them: V, or more where the spare rows do not suffice."""
        return max(self.base_rows, self.ids[-1] + 1)

    @property
    def beyond(self) -> tuple[int, ...]:
        """Ids for which the base has no row."""
        return tuple(token for token in self.ids if token >= self.base_rows)

    @property
    def grows(self) -> bool:
        """Whether the matrix becomes longer."""
        return self.rows > self.base_rows

    def rows_over(self, count: int) -> int:
        """Return the rows that they make of a matrix: more where it is the base's, and as many for any other."""
        return self.rows if count == self.base_rows else count

    def as_dict(self) -> dict[str, Any]:
        """Return them for the settings of a patch."""
        return {"texts": list(self.texts), "ids": list(self.ids), "base_rows": self.base_rows}

    def sentence(self) -> str:
        """Say where their rows are."""
        spare = len(self.ids) - len(self.beyond)
        if not self.grows:
            return f"{len(self.ids):,} new tokens, all in spare rows of the base's {self.base_rows:,}: the matrix does not grow"
        where = f"{spare:,} in spare rows of the base, {len(self.beyond):,} in new rows" if spare else "in new rows"
        return f"{len(self.ids):,} new tokens, {where}: the matrix grows from {self.base_rows:,} to {self.rows:,} rows"


def refuse_new_tokens(added: AddedTokens | None, why: str) -> None:
    """Refuse a patch that adds tokens.

    Parameters
    ----------
    why
        End of the sentence: why it cannot be used.

    Raises
    ------
    UserError
        When it adds any.
    """
    if added is not None:
        raise UserError(f"the patch adds {len(added.ids):,} tokens to the vocabulary, {why}")


def added_tokens(settings: Mapping[str, Any]) -> AddedTokens | None:
    """Return the tokens that the settings of a patch name; None where it adds none.

    Raises
    ------
    UserError
        When they are damaged.
    """
    about: Any = settings.get(SETTING)
    if about is None:
        return None
    try:
        texts, ids, rows = tuple(about["texts"]), tuple(about["ids"]), about["base_rows"]
        right = type(rows) is int and all(type(token) is int for token in ids) and all(type(t) is str for t in texts)
        right = right and 0 < len(texts) == len(set(texts)) == len(ids) and all(texts) and ids[0] >= 0
        if right and ids[-1] < MOST_IDS and all(first < second for first, second in pairwise(ids)):
            return AddedTokens(texts=texts, ids=ids, base_rows=rows)
    except (TypeError, KeyError, ValueError, IndexError):
        pass
    raise UserError(f"the new tokens of the patch are damaged ({shortened(str(about))}): make the patch again")
