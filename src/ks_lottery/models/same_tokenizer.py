"""Whether two tokenizers give the same numbers to the same tokens: what answers of two models are compared by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ks_lottery.errors import UserError, shortened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase


def check_same_tokenizer(
    name: str, tokenizer: PreTrainedTokenizerBase, other: str, other_tokenizer: PreTrainedTokenizerBase
) -> None:
    """Refuse two tokenizers that give one number to different tokens.

    One may have more tokens than the other, such as the padding of a GGUF file: that the text has the same tokens is checked
    apart (`check_same_tokens`).

    Parameters
    ----------
    name, other
        What errors call the two models.

    Raises
    ------
    UserError
        For the first such number.
    """
    if tokenizer is other_tokenizer:
        return
    ours, theirs = ({number: token for token, number in t.get_vocab().items()} for t in (tokenizer, other_tokenizer))
    differing = sorted(number for number in ours.keys() & theirs.keys() if ours[number] != theirs[number])
    if differing:
        first = differing[0]
        raise UserError(
            f"{name} and {other} have different tokenizers: token {first} is {shortened(ours[first])} in one and "
            f"{shortened(theirs[first])} in the other, and {len(differing):,} differ in all. Give models that share a tokenizer"
        )


def check_same_tokens(
    name: str, sequences: Sequence[Sequence[int]], other: str, other_sequences: Sequence[Sequence[int]]
) -> None:
    """Refuse two models whose tokenizers, with their prompts, make other tokens of a text.

    Raises
    ------
    UserError
        For the first sentence with other tokens.
    """
    if len(sequences) != len(other_sequences):
        raise UserError(
            f"{name} and {other} tokenize the text differently: {len(sequences):,} and {len(other_sequences):,} sentences can "
            "be measured. Give models that share a tokenizer"
        )
    for number, (ours, theirs) in enumerate(zip(sequences, other_sequences, strict=True), start=1):
        if list(ours) != list(theirs):
            raise UserError(
                f"{name} and {other} tokenize the text differently: sentence {number} has {len(ours):,} and {len(theirs):,} "
                "tokens, not all the same. Give models that share a tokenizer, or another `template`"
            )
