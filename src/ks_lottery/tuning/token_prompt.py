"""A prompt of its own tokens: tokens that text never yields take the places of a template's tokens around the source."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ks_lottery.corpus.corpus import Corpus
from ks_lottery.corpus.mixed_templates import is_mixed
from ks_lottery.corpus.numbered_tokens import by_number, numbered_tokens, template_parts
from ks_lottery.corpus.prompt_form import PromptForm
from ks_lottery.corpus.prompts import LANGUAGES, usual_order
from ks_lottery.corpus.template_places import template_places, template_tokens
from ks_lottery.errors import UserError
from ks_lottery.models.unused_tokens import UnusedToken, unused_tokens, yielded
from ks_lottery.tickets.tickets import Tickets
from ks_lottery.tuning.token_rows import TokenRows, grown_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

    from ks_lottery.corpus.batches import Example
    from ks_lottery.models.load import LoadedModel
    from ks_lottery.models.tokenized import Tokenized
    from ks_lottery.tuning.tune_spec import TuneSpec

    Text = Corpus | Sequence[Example]

TOKEN_PROMPT = "token-prompt"  # noqa: S105  (a method, no secret)
"""Name of the method."""

_SOURCE = "{source}"

_PROBES = ("a", "1", "é", "“", ".", " ", "字", "\u0338", "\u0301")
"""Sentences whose ends may join with a token beside them, as a tokenizer that knows a token as a whole word alone does, or one
that composes characters (``>`` and U+0338) before it looks for tokens."""


@dataclass(frozen=True, kw_only=True)
class TokenPrompt:
    """A prompt made of tokens that text never yields.

    Parameters
    ----------
    template
        The prompt as a template: the tokens around ``{source}``, as text, or as ``{token:N}`` where there is no text for one.
    ids
        Its tokens, in their order.
    shape
        The template whose places they take.
    places
        Tokens of that template around the source.
    available
        Number of tokens that text never yields, before any is added.
    new
        Of its tokens, those that are added to the vocabulary.
    """

    template: str
    ids: tuple[int, ...]
    shape: str
    places: int
    available: int
    new: int = 0

    @property
    def tickets(self) -> Tickets:
        """The rows of the prompt."""
        rule = {"selector": TOKEN_PROMPT, "size": len(self.ids), "template": self.shape}
        return Tickets(rows=np.array(self.ids, dtype=np.int64), rule=rule)

    def sentences(self) -> list[str]:
        """Say which tokens the prompt is made of, and how it is written."""
        shown = self.shape if len(self.shape) <= 40 else "of your own"
        numbered = len(numbered_tokens(self.template))
        which = f"{len(self.ids) - self.new:,} of {self.available:,} tokens that text never yields"
        which += f" and {self.new:,} new ones" if self.new else ""
        sentences = [
            f"token prompt: {which}, for the {self.places:,} places of the template {shown}: {', '.join(map(str, self.ids))}",
            f"prompt: {self.template}",
        ]
        if numbered:
            sentences.append(
                f"{numbered:,} of its tokens cannot be written as text with this tokenizer and are given by their ids "
                "({token:N}), which other programs must be given as ids too"
            )
        return sentences


def prompt_of_its_own(
    spec: TuneSpec, loaded: LoadedModel, corpus: Text, validation: Text | None
) -> tuple[TuneSpec, LoadedModel, TokenPrompt | None, TokenRows | None]:
    """Return what a tuning is asked for with its own prompt as template and rows, the model, that prompt, and its new tokens.

    Where the vocabulary has too few tokens that text never yields, the prompt brings new ones, with which the model is
    returned. For another method all is as it was.

    Raises
    ------
    UserError
        When examples or tickets are given, or no prompt can be made.
    """
    if spec.method != TOKEN_PROMPT:
        return spec, loaded, None, None
    if spec.tickets is not None:
        raise UserError("token-prompt tuning chooses its own rows: leave `tickets` out")
    if not isinstance(corpus, Corpus) or not (validation is None or isinstance(validation, Corpus)):
        raise UserError("token-prompt tuning writes the prompt itself: give a text (a corpus or a file), not examples")
    if not all(pair.source for pair in corpus):
        raise UserError(
            f"{corpus.origin} has examples without a source, and token-prompt tuning makes a prompt for sentences: choose "
            "another `method`"
        )
    loaded, prompt, added = _with_new(loaded, corpus, spec)
    prompt = prompt or token_prompt(loaded, corpus, spec)
    return replace(spec, template=prompt.template, tickets=prompt.tickets), loaded, prompt, added


def _with_new(
    loaded: LoadedModel, corpus: Corpus, spec: TuneSpec
) -> tuple[LoadedModel, TokenPrompt | None, TokenRows | None]:
    """Make a prompt with new tokens where the vocabulary has too few that text never yields; else all is as it was.

    The row of a new token starts from that of the template's token whose place it takes.
    """
    counts, free = places_and_tokens(loaded, corpus, spec.template)
    number = sum(counts) if spec.tokens == "auto" else int(spec.tokens)
    if not len(free) < number <= sum(counts):
        return loaded, None, None
    named = [unused for unused in free if unused.text]  # new tokens take the rows that have none
    form = PromptForm(loaded.tokenizer, spec.template, (corpus.source_language, corpus.target_language))
    places = [token for stretch in template_tokens(form, usual_order(corpus)) for token in stretch]
    last = number // 2
    replaced = [*places[: number - last], *places[len(places) - last :]][len(named) :]
    vocabulary, texts, numbers = loaded.tokenizer.get_vocab(), list[str](), itertools.count(1)
    while len(texts) < len(replaced):
        text = f"<|prompt_{next(numbers)}|>"
        texts += [] if text in vocabulary else [text]
    longer, added = grown_model(loaded, texts, [[token] for token in replaced])
    chosen = [*named, *map(UnusedToken, added.ids, added.texts)]
    prompt = TokenPrompt(
        template=_written(longer.tokenizer, chosen, _ends(counts, number), corpus.pairs[0].source),
        ids=tuple(unused.token for unused in chosen),
        shape=spec.template,
        places=len(places),
        available=len(free),
        new=len(texts),
    )
    return longer, prompt, TokenRows(added=added, init="the rows of the template's tokens in whose places they are")


def token_prompt(loaded: LoadedModel, corpus: Corpus, spec: TuneSpec) -> TokenPrompt:
    """Make the prompt of a tuning.

    With fewer tokens than places, the places at both ends of the template are kept: the first half of them at its beginning,
    the other half at its end.

    Parameters
    ----------
    corpus
        The training text; tokens that occur in it are not used.

    Raises
    ------
    UserError
        When the template has no place, or too few, or the vocabulary has too few tokens that text never yields.
    """
    counts, free = places_and_tokens(loaded, corpus, spec.template)
    places, given = sum(counts), spec.tokens
    number = places if given == "auto" else int(given)
    if not places:
        raise UserError(
            "the template has no token around the source, whose place a token could take: give a longer one"
        )
    if number > places:
        raise UserError(
            f"`tokens` is {number:,}, but the template has {places:,} tokens around the source: give at most {places}, or a "
            "longer `template`"
        )
    if number > len(free):
        remedy = f"give `tokens={len(free)}`, or another `method`" if free else "choose another `method`"
        raise UserError(
            f"the vocabulary of {loaded.checkpoint.name} has {len(free):,} tokens that text never yields, but the prompt needs "
            f"{number:,}: {remedy}"
        )
    chosen = free[:number]
    return TokenPrompt(
        template=_written(loaded.tokenizer, chosen, _ends(counts, number), corpus.pairs[0].source),
        ids=tuple(unused.token for unused in chosen),
        shape=spec.template,
        places=places,
        available=len(free),
    )


def places_and_tokens(loaded: Tokenized, corpus: Corpus, template: str) -> tuple[list[int], list[UnusedToken]]:
    """Return how many tokens each stretch of a template has, and the tokens that may take their places.

    Parameters
    ----------
    corpus
        The training text; tokens that occur in it are not among them.

    Raises
    ------
    UserError
        When the template is a mix of several.
    """
    if is_mixed(template):
        raise UserError(
            "token-prompt tuning takes the places of one template, and `template` is a mix of several: name one of them, such "
            "as alpaca"
        )
    form = PromptForm(loaded.tokenizer, template, (corpus.source_language, corpus.target_language))
    counts = template_places(form, usual_order(corpus))
    occurring = yielded(loaded.tokenizer, [text for pair in corpus.pairs for text in (pair.source, pair.target)])
    return counts, [unused for unused in unused_tokens(loaded) if unused.token not in occurring]


def _ends(counts: Sequence[int], number: int) -> list[int]:
    """Return how many of each stretch's places are kept when the ends of the template get `number` tokens in all.

    >>> _ends([10, 3], 4), _ends([10, 1], 4), _ends([1, 2, 9], 5)
    ([2, 2], [3, 1], [1, 2, 2])
    """
    of_place = [stretch for stretch, count in enumerate(counts) for _ in range(count)]
    last = number // 2
    first = number - last
    kept = [*of_place[:first], *of_place[len(of_place) - last :]]
    return [kept.count(stretch) for stretch in range(len(counts))]


def _written(
    tokenizer: PreTrainedTokenizerBase, chosen: Sequence[UnusedToken], counts: Sequence[int], source: str
) -> str:
    """Write a prompt as a template: as text where the tokenizer turns that into these tokens alone, else by ids."""
    texts = [unused.text if _is_plain(unused.text) else by_number(unused.token) for unused in chosen]
    template = _around(texts, counts)
    ids = [unused.token for unused in chosen]
    bare = _around([by_number(token) for token in ids], counts)
    probes = [source, *_PROBES]
    prompts, exact = (
        PromptForm(tokenizer, written).prompts([""] * len(probes), probes) for written in (template, bare)
    )
    begins = [prompt.index(ids[0]) for prompt in exact]
    fits = all(_has_its_tokens(*found, counts) for found in zip(prompts, [ids] * len(probes), begins, strict=True))
    return template if fits else bare


def _has_its_tokens(prompt: Sequence[int], ids: Sequence[int], begin: int, counts: Sequence[int]) -> bool:
    """Say whether a prompt has the tokens once each, in order, in unbroken stretches, the outer ones at its ends."""
    places = [place for place, token in enumerate(prompt) if token in set(ids)]
    if [prompt[place] for place in places] != list(ids):
        return False
    edges = np.cumsum([0, *counts])
    stretches = [places[start:stop] for start, stop in itertools.pairwise(edges)]
    unbroken = all(stretch == list(range(stretch[0], stretch[0] + len(stretch))) for stretch in stretches if stretch)
    at_begin = not stretches[0] or stretches[0][0] == begin
    return unbroken and at_begin and (not stretches[-1] or stretches[-1][-1] == len(prompt) - 1)


def _is_plain(text: str) -> bool:
    """Say whether a text means itself in a template."""
    places = ("{source}", "{instruction}", *LANGUAGES)
    return bool(text) and not any(place in text for place in places) and template_parts(text) == [text]


def _around(texts: Sequence[str], counts: Sequence[int]) -> str:
    stretches: list[str] = []
    start = 0
    for count in counts:
        stretches.append("".join(texts[start : start + count]))
        start += count
    return _SOURCE.join(stretches)
