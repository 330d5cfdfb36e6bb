"""New tokens in a tokenizer, and a model's name, checkpoint and tokenizer with the tokens that a patch adds."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from ks_lottery.checkpoint.added_tokens import AddedTokens
from ks_lottery.checkpoint.grown import GrownCheckpoint, grown
from ks_lottery.checkpoint.patch import RowPatch
from ks_lottery.checkpoint.reader import Checkpoint
from ks_lottery.corpus.lines import is_encodable
from ks_lottery.errors import UserError, shortened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

    from ks_lottery.checkpoint.gguf_rows import GgufRows

Base = TypeVar("Base")


def extended(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> tuple[PreTrainedTokenizerBase, list[int]]:
    """Return a copy of a tokenizer with new tokens, and the ids that they have there.

    Each is found in a text wherever its characters are, before anything else splits the text, and is no special token: it is
    not left out where an answer becomes text.

    Raises
    ------
    UserError
        When a token exists already, or the tokenizer accepts none.
    """
    from tokenizers import AddedToken

    vocabulary = tokenizer.get_vocab()
    known = [text for text in texts if text in vocabulary]
    if known:
        raise UserError(
            f"`tokens`: {shortened(known[0])} is token {vocabulary[known[0]]:,} of the tokenizer already"
            f"{_more(len(known) - 1)}: leave it out, or train its row by partial tuning"
        )
    longer: Any = copy.deepcopy(tokenizer)
    longer.add_tokens([AddedToken(text, special=False, normalized=False) for text in texts])
    ids = [longer.convert_tokens_to_ids(text) for text in texts]
    if len(set(ids)) < len(ids) or any(type(token) is not int or token in vocabulary.values() for token in ids):
        raise UserError(f"`tokens`: the tokenizer does not take {shortened(texts[0])} as a new token: give other texts")
    return longer, ids


def with_added(tokenizer: PreTrainedTokenizerBase, checkpoint: Checkpoint | GgufRows) -> PreTrainedTokenizerBase:
    """Return a checkpoint's tokenizer with the tokens that it has beside its base's; as it is without any.

    Raises
    ------
    UserError
        When the tokenizer gives them other ids than the patch has.
    """
    if not isinstance(checkpoint, GrownCheckpoint):
        return tokenizer
    longer, ids = extended(tokenizer, checkpoint.added.texts)
    if tuple(ids) != checkpoint.added.ids:
        raise UserError(
            f"the tokenizer of {checkpoint.name} is not the one that the patch was made with: it gives "
            f"{shortened(checkpoint.added.texts[0])} the id {ids[0]:,}, and the patch has {checkpoint.added.ids[0]:,}. Give "
            "the base with its own tokenizer"
        )
    return longer


def with_new_tokens(base: Base, product: Any) -> Base:
    """Return a base with the tokens that a patch adds; as it is where it adds none, or it has them already.

    Parameters
    ----------
    base
        A checkpoint, one with its tokenizer, or a loaded model, whose weights stay as they are.
    product
        A row patch; anything else adds no token.

    Raises
    ------
    UserError
        When the patch was made on a base with another number of rows, or with another tokenizer.
    """
    added = product.added if isinstance(product, RowPatch) else None
    one: Any = base
    checkpoint: Checkpoint = one if isinstance(one, Checkpoint) else one.checkpoint
    if added is None or (isinstance(checkpoint, GrownCheckpoint) and checkpoint.added == added):
        return base
    if checkpoint.units[checkpoint.embedding].count != added.base_rows:
        raise UserError(
            f"the patch adds tokens to a base of {added.base_rows:,} rows, and {checkpoint.name} has "
            f"{checkpoint.units[checkpoint.embedding].count:,}: give the base that it was made on"
        )
    longer: Any = grown(checkpoint, added)
    if isinstance(one, Checkpoint):
        return longer
    return replace(one, checkpoint=longer, tokenizer=with_added(one.tokenizer, longer))


def readable(prompts: Sequence[Sequence[int]], patch: RowPatch) -> list[list[int]]:
    """Return prompts without the tokens for which the base has no row: what the base alone can be asked."""
    beyond = set[int]() if patch.added is None else set(patch.added.beyond)
    return [[token for token in prompt if token not in beyond] for prompt in prompts]


def checked_texts(texts: Sequence[str], where: str = "`tokens`") -> tuple[str, ...]:
    """Return the texts of new tokens.

    Raises
    ------
    UserError
        When there is none, one is empty or blank, or one is there twice.
    """
    if not texts:
        raise UserError(f"{where} holds no token: give one a line, or texts with commas between them")
    seen = set[str]()
    for text in texts:
        if not text.strip():
            raise UserError(f"{where} holds an empty token: give each some text")
        if not is_encodable(text):
            raise UserError(f"{where} holds {shortened(text)}, which is not UTF-8 text: convert it to UTF-8")
        if text in seen:
            raise UserError(f"{where} holds {shortened(text)} twice: give each token once")
        seen.add(text)
    return tuple(texts)


def _more(count: int) -> str:
    return f", and {count:,} more are" if count else ""


def tokens_added(texts: Sequence[str], ids: Sequence[int], base_rows: int) -> AddedTokens:
    """Return tokens with their ids in ascending order."""
    order = sorted(range(len(ids)), key=lambda place: ids[place])
    return AddedTokens(texts=tuple(texts[i] for i in order), ids=tuple(ids[i] for i in order), base_rows=base_rows)
