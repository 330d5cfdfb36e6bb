"""The tokens of the prompt template and the instruction: what a prompt holds beside the sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ks_lottery.corpus.prompt_form import PromptForm
from ks_lottery.corpus.prompts import CHAT, orders
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transformers import PreTrainedTokenizerBase

    from ks_lottery.corpus.corpus import Corpus

MARK = "\ue000"
"""Stands for the sentence while a prompt is split: a character for private use, which no text has."""


def template_tokens(tokenizer: PreTrainedTokenizerBase, corpus: Corpus, *, template: str = "alpaca") -> frozenset[int]:
    """Return the tokens that stand anywhere in the prompts of a corpus outside the sentence.

    A token that covers the end of the sentence and the beginning of what follows counts as the template's.

    Parameters
    ----------
    template
        One of `ks_lottery.config.choices.TEMPLATES`, or a text of your own; see `PromptForm`.

    Raises
    ------
    UserError
        When the tokenizer does not say which characters a token covers, or the template changes the sentence.
    """
    if not tokenizer.is_fast:
        raise UserError(
            f"the tokenizer {type(tokenizer).__name__} does not say which characters a token covers, so that the rows of the "
            "template are not known: choose rows by another rule"
        )
    form, found = PromptForm(tokenizer, template), set[int]()
    texts: list[str] = []
    spans: list[list[tuple[int, int]]] = []
    for order, pair in zip(orders(corpus), corpus.pairs, strict=True):
        text = form.render(order, pair.source)
        pieces = form.render(order, MARK).split(MARK)
        source = next((each for each in (pair.source, pair.source.strip()) if each.join(pieces) == text), None)
        if source is None:
            raise UserError(
                f"template {template!r} changes the sentence {pair.source[:40]!r}, so that its own tokens are not known: "
                "choose rows by another rule"
            )
        texts.append(text)
        spans.append(list(_spans(pieces, len(source))))
    encoded = tokenizer(texts, add_special_tokens=template != CHAT, return_offsets_mapping=True) if texts else {}
    for ids, offsets, places in zip(
        encoded.get("input_ids", []), encoded.get("offset_mapping", []), spans, strict=True
    ):
        closed = len(ids) > 0 and template != CHAT and ids[-1] == tokenizer.eos_token_id  # as in `PromptForm.prompts`
        for token, (start, end) in list(zip(ids, offsets, strict=True))[: -1 if closed else None]:
            if not any(low <= start < end <= high for low, high in places):
                found.add(int(token))
    return frozenset(found)


def _spans(pieces: list[str], length: int) -> Iterator[tuple[int, int]]:
    """Yield where the sentence begins and ends between the pieces of a prompt."""
    cursor = 0
    for piece in pieces[:-1]:
        cursor += len(piece)
        yield cursor, cursor + length
        cursor += length
