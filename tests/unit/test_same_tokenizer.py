"""Two tokenizers: what makes them differ, by tokenizers of transformers made here."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from ks_lottery import UserError
from ks_lottery.models.same_tokenizer import check_same_tokenizer, check_same_tokens


def tokenizer(*tokens: str) -> PreTrainedTokenizerFast:
    core = Tokenizer(models.WordLevel({token: number for number, token in enumerate(tokens)}, unk_token="<u>"))
    return PreTrainedTokenizerFast(tokenizer_object=core)


def test_one_may_have_more_tokens_but_no_other_ones() -> None:
    ours = tokenizer("<u>", "a", "b")
    check_same_tokenizer("one", ours, "two", ours)
    check_same_tokenizer("one", ours, "two", tokenizer("<u>", "a", "b"))
    check_same_tokenizer("one", ours, "two", tokenizer("<u>", "a", "b", "[PAD3]"))
    with pytest.raises(
        UserError, match=r"one and two have different tokenizers: token 1 is 'a' in one and 'b' in the other"
    ):
        check_same_tokenizer("one", ours, "two", tokenizer("<u>", "b", "a"))
    with pytest.raises(UserError, match="2 differ in all"):
        check_same_tokenizer("one", ours, "two", tokenizer("<u>", "b", "a"))


def test_the_first_sentence_with_other_tokens_is_named() -> None:
    check_same_tokens("one", [(1, 2), (3,)], "two", [[1, 2], [3]])
    with pytest.raises(UserError, match="sentence 2 has 1 and 2 tokens"):
        check_same_tokens("one", [(1, 2), (3,)], "two", [(1, 2), (3, 4)])
    with pytest.raises(UserError, match="2 and 1 sentences can be measured"):
        check_same_tokens("one", [(1, 2), (3,)], "two", [(1, 2)])
