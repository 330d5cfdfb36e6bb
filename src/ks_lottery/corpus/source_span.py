"""Which tokens of a prompt are the source sentence, and which are the instruction: everything else, template included."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ks_lottery.corpus.chat import chat_prompt
from ks_lottery.corpus.numbered_tokens import numbered_tokens, template_parts
from ks_lottery.corpus.prompts import CHAT, JOINT, TEMPLATES, fill

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

    from ks_lottery.corpus.prompt_form import PromptForm

Range = tuple[int, int]
"""First character of a stretch of text, and the one behind its last."""

_MESSAGE = "Aquestéselmissatge"


def source_ranges(template: str, order: str, source: str) -> list[Range]:
    """Return where the source sentence is in a filled template of text, in characters; a template may show it several times.

    Examples
    --------
    >>> source_ranges("plain", "Translate.", "a b")
    [(11, 14)]
    """
    text = TEMPLATES.get(template, template)
    ranges: list[Range] = []
    end = length = 0
    for found in re.finditer(r"\{instruction\}|\{source\}", text):
        length += found.start() - end
        value = source if found[0] == "{source}" else order
        if found[0] == "{source}":
            ranges.append((length, length + len(value)))
        length, end = length + len(value), found.end()
    return ranges


def source_tokens(
    form: PromptForm,
    orders: Sequence[str],
    sources: Sequence[str],
    prompts: Sequence[Sequence[int]],
    targets: Sequence[str] | None = None,
) -> list[tuple[bool, ...] | None]:
    """Say of each token of each prompt whether it is of the source sentence alone.

    A token that straddles source and template belongs to the instruction, as do special tokens that the tokenizer adds.

    Parameters
    ----------
    prompts
        What ``form.prompts`` or, with `targets`, ``form.pairs`` made of `orders` and `sources`.
    targets
        The responses, where the prompts were tokenized together with them.

    Returns
    -------
    list of tuple of bool, or None
        None for a prompt whose source cannot be located: a chat template changes it.
    """
    if form.forms:
        return form.by_form(
            sources,
            lambda one, places: source_tokens(
                one,
                [orders[i] for i in places],
                [sources[i] for i in places],
                [prompts[i] for i in places],
                None if targets is None else [targets[i] for i in places],
            ),
        )
    if numbered_tokens(form.template):
        return [_in_parts(form, *given) for given in zip(orders, sources, prompts, strict=True)]
    texts = [form.render(order, source) for order, source in zip(orders, sources, strict=True)]
    if not texts:
        return []
    if form.template == CHAT:
        start = _chat_start(form.tokenizer)
        ranges = [
            _in_chat(text, start, order, source) for text, order, source in zip(texts, orders, sources, strict=True)
        ]
    else:
        pairs = zip(orders, sources, strict=True)
        ranges: list[list[Range] | None] = [
            source_ranges(form.text, order, source) if source.strip() else [] for order, source in pairs
        ]
    if targets is not None and form.template in JOINT:
        texts = [f"{text}{target}" for text, target in zip(texts, targets, strict=True)]
    tokenize = _by_offsets if getattr(form.tokenizer, "is_fast", False) else by_pieces
    special = form.template != CHAT
    places: list[tuple[bool, ...] | None] = []
    for text, known, prompt in zip(texts, ranges, prompts, strict=True):
        found = None if known is None else tokenize(form.tokenizer, text, known, special=special)
        places.append(None if found is None else _of_prompt(*found, prompt))
    return places


def _in_parts(form: PromptForm, order: str, source: str, prompt: Sequence[int]) -> tuple[bool, ...] | None:
    """Return the places of a prompt with tokens that are named by their id, whose text is tokenized part by part."""
    tokenize = _by_offsets if getattr(form.tokenizer, "is_fast", False) else by_pieces
    ids, inside = list(form.opening), [False] * len(form.opening)
    for part in template_parts(form.text):
        if isinstance(part, int):
            found = [part], [False]
        else:
            ranges = source_ranges(part, order, source)
            found = tokenize(form.tokenizer, fill(part, order, source), ranges, special=False)
        ids += found[0]
        inside += found[1]
    return _of_prompt(ids, inside, prompt)


def _of_prompt(ids: Sequence[int], inside: Sequence[bool], prompt: Sequence[int]) -> tuple[bool, ...] | None:
    """Return the places of a prompt's tokens; None where the prompt has others.

    A beginning of sentence that the template writes and the tokenizer adds is in the prompt once.
    """
    for first in (0, 1):
        stop = first + len(prompt)
        if tuple(ids[first:stop]) == tuple(prompt) and not any(inside[:first]):
            return tuple(inside[first:stop])
    return None


def _by_offsets(
    tokenizer: PreTrainedTokenizerBase, text: str, ranges: Sequence[Range], *, special: bool
) -> tuple[list[int], list[bool]]:
    """Return the tokens of a text, and which of them lie within `ranges`, by the character offsets of the tokenizer."""
    encoded: Any = tokenizer(text, add_special_tokens=special, return_offsets_mapping=True)
    ids: list[int] = encoded["input_ids"]
    names: list[str] = tokenizer.convert_ids_to_tokens(ids)  # pyright: ignore[reportAssignmentType]
    spans = [_untrimmed(text, name, *pair) for name, pair in zip(names, encoded["offset_mapping"], strict=True)]
    inside = [start < end and any(a <= start and end <= b for a, b in ranges) for start, end in spans]
    return ids, inside


def _untrimmed(text: str, name: str, start: int, end: int) -> Range:
    """Return the characters of a token with the spaces that a byte-level tokenizer trims off its offsets (Ġ is a space)."""
    shown = text[start:end]
    if "Ġ" in shown:  # the letter itself, in a tokenizer that is not byte-level
        return start, end
    trimmed = len(name) - len(name.lstrip("Ġ")) - (len(shown) - len(shown.lstrip(" ")))
    while trimmed > 0 and text[start - 1 : start] == " ":
        start, trimmed = start - 1, trimmed - 1
    trimmed = len(name) - len(name.rstrip("Ġ")) - (len(shown) - len(shown.rstrip(" "))) if name.strip("Ġ") else 0
    while trimmed > 0 and text[end : end + 1] == " ":
        end, trimmed = end + 1, trimmed - 1
    return start, end


def by_pieces(
    tokenizer: PreTrainedTokenizerBase, text: str, ranges: Sequence[Range], *, special: bool
) -> tuple[list[int], list[bool]]:
    """Return the same as by offsets, for tokenizers without them: the text up to each end of a range is tokenized apart.

    Where the tokens of a beginning are the first tokens of the whole, a token ends there; elsewhere the token that differs
    straddles the end.
    """
    whole = _ids(tokenizer, text, special=special)
    inside = [False] * len(whole)
    for start, end in ranges:
        first, whole_start = _common(whole, _ids(tokenizer, text[:start], special=special))
        last, _ = _common(whole, _ids(tokenizer, text[:end], special=special))
        for place in range(first if whole_start else first + 1, last):
            inside[place] = True
    return whole, inside


def _ids(tokenizer: PreTrainedTokenizerBase, text: str, *, special: bool) -> list[int]:
    """Tokenize a text that is open at the end."""
    ids: list[int] = list(tokenizer(text, add_special_tokens=special)["input_ids"])  # pyright: ignore[reportArgumentType]
    return ids[:-1] if special and ids and ids[-1] == tokenizer.eos_token_id else ids


def _common(whole: Sequence[int], begin: Sequence[int]) -> tuple[int, bool]:
    """Return how many first tokens two texts share, and whether these are all of the second."""
    shared = next(
        (i for i, (a, b) in enumerate(zip(whole, begin, strict=False)) if a != b), min(len(whole), len(begin))
    )
    return shared, shared == len(begin)


def _chat_start(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return where a chat template writes the user's message."""
    return chat_prompt(tokenizer, _MESSAGE).find(_MESSAGE)


def _in_chat(text: str, start: int, order: str, source: str) -> list[Range] | None:
    """Return where the source is in a chat prompt: behind the instruction and a line break, as in the template plain."""
    plain = f"{order}\n{source}\n"
    message = plain.strip()
    if start < 0 or not text.startswith(message, start):
        return None
    begin = start + len(order) + 1 - (len(plain) - len(plain.lstrip()))
    return [(max(begin, start), min(begin + len(source), start + len(message)))]
