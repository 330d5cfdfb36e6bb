"""Prompts and responses in tokens, made in one place, so that training and translating see the same."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from ks_lottery.corpus.chat import Turn, chat_prompt, read_turn
from ks_lottery.corpus.mixed_templates import mixed_place, mixed_templates
from ks_lottery.corpus.numbered_tokens import numbered_tokens, template_parts
from ks_lottery.corpus.prompts import (
    CHAT,
    JOINT,
    TEMPLATES,
    check_template,
    fill,
    render_prompt,
    template_text,
    without_input,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from transformers import PreTrainedTokenizerBase

T = TypeVar("T")


def special_token(tokenizer: PreTrainedTokenizerBase, *names: str) -> int:
    """Return the id of the first special token of these names that the tokenizer has.

    Raises
    ------
    ValueError
        When it has none of them.
    """
    for name in names:
        token = getattr(tokenizer, name)
        if isinstance(token, int):
            return token
    raise ValueError(f"the tokenizer has no {' or '.join(names)}")


@dataclass(frozen=True)
class PromptForm:
    """How sentences are shown to one model: a template and its tokenizer.

    Prompt and response are tokenized apart, so that training sees the boundary that generation will meet; with the templates in
    `JOINT` they are tokenized as one text.

    Parameters
    ----------
    template
        One of `ks_lottery.config.choices.TEMPLATES`; a text with ``{source}`` and, if you like, ``{instruction}``,
        ``{source_language}`` and ``{target_language}``, where ``{token:N}`` is the token of the id N, for tokens that cannot
        be written as text; or ``mixed:FILE`` for each sentence in one of the templates of a file.
    languages
        Codes or names of the source and the target language; None is enough for a template that does not name them.

    Raises
    ------
    UserError
        When the template is not known or its file cannot be used, or is ``chat`` and the tokenizer has no chat template that
        can be used.
    """

    tokenizer: PreTrainedTokenizerBase
    template: str = "alpaca"
    languages: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        """Check the template."""
        if not self.forms:
            check_template(self.template)
        _ = self.end

    @cached_property
    def forms(self) -> tuple[PromptForm, ...]:
        """The forms that a mix consists of; none for one template."""
        return tuple(PromptForm(self.tokenizer, name, self.languages) for name in mixed_templates(self.template))

    @property
    def templates(self) -> tuple[str, ...]:
        """The templates that prompts are made with: one, or those of a mix."""
        return tuple(form.template for form in self.forms) or (self.template,)

    @cached_property
    def text(self) -> str:
        """The text of the one template, with the names of the languages."""
        return template_text(self.template, self.languages)

    def form_of(self, source: str) -> PromptForm:
        """Return the form that a sentence gets: this one, or of a mix the one that the sentence alone decides."""
        return self.forms[mixed_place(source, len(self.forms))] if self.forms else self

    def by_form(self, sources: Sequence[str], made: Callable[[PromptForm, list[int]], Sequence[T]]) -> list[T]:
        """Call `made` with each form of a mix and the places of its sentences, and return all results in order of `sources`."""
        places = [mixed_place(source, len(self.forms)) for source in sources]
        results: dict[int, T] = {}
        for number, form in enumerate(self.forms):
            here = [i for i, place in enumerate(places) if place == number]
            results |= dict(zip(here, made(form, here), strict=True))
        return [results[i] for i in range(len(places))]

    @cached_property
    def _turn(self) -> Turn | None:
        return read_turn(self.tokenizer) if self.template == CHAT else None

    @cached_property
    def end(self) -> int:
        """Id of the token that a response ends with: the tokenizer's end of sentence, or the chat template's end of turn."""
        return special_token(self.tokenizer, "eos_token_id") if self._turn is None else self._turn.end

    def render(self, order: str, source: str) -> str:
        """Return the text of a prompt; with ``chat`` its special tokens are written out."""
        if self.forms:
            return self.form_of(source).render(order, source)
        if self._turn is None:
            return render_prompt(self.template, order, source, self.languages)
        message = render_prompt(TEMPLATES["plain"], order, source).strip()
        return chat_prompt(self.tokenizer, message) + self._turn.opening

    def prompts(self, orders: Sequence[str], sources: Sequence[str]) -> list[tuple[int, ...]]:
        """Tokenize prompts as the model expects a text to begin, open at the end; one a pair of order and sentence."""
        if self.forms:
            return self.by_form(
                sources, lambda form, at: form.prompts([orders[i] for i in at], [sources[i] for i in at])
            )
        texts = [self.render(order, source) for order, source in zip(orders, sources, strict=True)]
        if not texts:
            return []
        if self._turn is not None:  # the template has written its beginning of sentence itself
            return [tuple(ids) for ids in self.tokenizer(texts, add_special_tokens=False)["input_ids"]]
        if numbered_tokens(self.template):
            return self._in_parts(orders, sources)
        return self.texts(texts)

    def _in_parts(self, orders: Sequence[str], sources: Sequence[str]) -> list[tuple[int, ...]]:
        """Tokenize prompts with tokens that are named by their id; the text between them is tokenized by itself."""
        for order, source in zip(orders, sources, strict=True):
            if order.strip() and not source.strip():
                without_input(self.template, self.text)
        parts, pairs = template_parts(self.text), list(zip(orders, sources, strict=True))
        texts = [fill(part, *pair) for pair in pairs for part in parts if isinstance(part, str)]
        tokenized = iter(self.tokenizer(texts, add_special_tokens=False)["input_ids"])
        return [
            (*self.opening, *(i for part in parts for i in ([part] if isinstance(part, int) else next(tokenized))))
            for _ in pairs
        ]

    @cached_property
    def opening(self) -> tuple[int, ...]:
        """Tokens that the tokenizer puts before any text, such as a beginning of sentence."""
        whole, bare = (list(self.tokenizer("a", add_special_tokens=special)["input_ids"]) for special in (True, False))
        start = next((i for i in range(len(whole)) if whole[i : i + len(bare)] == bare), 0)
        return tuple(whole[:start])

    def texts(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """Tokenize texts as the model expects them to begin, open at the end.

        Where a text writes the beginning-of-sentence token that the tokenizer adds too, it is there once.
        """
        closing = self.tokenizer.eos_token_id
        begins, written = (getattr(self.tokenizer, name, None) for name in ("bos_token_id", "bos_token"))
        opened: list[tuple[int, ...]] = []
        for text, ids in zip(texts, self.tokenizer(list(texts))["input_ids"], strict=True):
            twice = begins is not None and ids[:2] == [begins, begins] and text.lstrip().startswith(str(written))
            opened.append(tuple(ids[int(twice) : -1 if ids and ids[-1] == closing else None]))
        return opened

    def pairs(
        self, orders: Sequence[str], sources: Sequence[str], targets: Sequence[str]
    ) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Tokenize prompts and their responses, each with its end token, as training sees them.

        Of what is tokenized as one text, as many tokens are the prompt as it has by itself, as in Stanford Alpaca's training.
        """
        if self.forms:
            given = (orders, sources, targets)
            return self.by_form(sources, lambda form, at: form.pairs(*([listed[i] for i in at] for listed in given)))
        prompts = self.prompts(orders, sources)
        if self.template not in JOINT or not prompts:
            return list(zip(prompts, self.responses(targets), strict=True))
        parts = zip(orders, sources, targets, strict=True)
        wholes = self.texts([f"{self.render(order, source)}{target}" for order, source, target in parts])
        lengths = [len(prompt) for prompt in prompts]
        return [(ids[:n], (*ids[n:], self.end)) for ids, n in zip(wholes, lengths, strict=True)]

    def documents(self, texts: Sequence[str]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Tokenize texts without a prompt, each with its end of sentence: what it begins with, and all that is to be predicted.

        It begins with what the tokenizer puts before any text; without that with its own first token, which nothing predicts.
        """
        begin, end = len(self.opening) or 1, special_token(self.tokenizer, "eos_token_id")
        return [(ids[:begin], (*ids[begin:], end)) for ids in self.texts(texts)]

    def responses(self, targets: Sequence[str]) -> list[tuple[int, ...]]:
        """Tokenize responses, each with its end token."""
        if not targets:
            return []
        lead, close = ("", "") if self._turn is None else (self._turn.lead, self._turn.close)
        every = self.tokenizer([f"{lead}{target}{close}" for target in targets], add_special_tokens=False)["input_ids"]
        return [tuple(ids) if close else (*ids, self.end) for ids in every]
