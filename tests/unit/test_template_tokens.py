"""Tokens of the template, against a walk over the prompts that decodes token by token."""

from __future__ import annotations

import pytest

from ks_lottery import Corpus, UserError, open_checkpoint, read_corpus
from ks_lottery.corpus.corpus import Pair
from ks_lottery.corpus.prompt_form import PromptForm
from ks_lottery.corpus.template_tokens import template_tokens
from ks_lottery.models.load import load_tokenizer


@pytest.fixture(scope="module")
def tokenizer(untied_model):
    return load_tokenizer(open_checkpoint(str(untied_model)))


@pytest.fixture(scope="module")
def corpus(text_file):
    pairs = read_corpus(text_file, source_language="en", target_language="ca").pairs[:30]
    own = [Pair(pair.source, pair.target, instruction="Say it in Catalan!") for pair in pairs[:3]]
    return Corpus((*pairs, *own), "en", "ca", "text")


def walked(tokenizer, text: str, source: str, *places: int) -> set[int]:
    """Return the tokens that cover a character outside of the sentence, which begins at each of `places`."""
    ids = tokenizer(text)["input_ids"]
    inside = {place + n for place in places for n in range(len(source))}
    found, done = set(), ""
    for place, token in enumerate(ids):
        now = tokenizer.decode(ids[: place + 1], skip_special_tokens=True, clean_up_tokenization_spaces=False)
        covered = set(range(len(done), len(now)))
        if not covered or covered - inside:
            found.add(token)
        done = now
    assert done == text
    return found


@pytest.mark.parametrize("template", ["alpaca", "plain", "alpaca-single", "{source} = ", "<<{source}>> {instruction}"])
def test_template_tokens_are_those_outside_of_the_sentence(tokenizer, corpus, template):
    form, wanted = PromptForm(tokenizer, template), set()
    for pair in corpus.pairs:
        order = pair.instruction or "Translate the following sentence from English to Catalan."
        text = form.render(order, pair.source)
        wanted |= walked(tokenizer, text, pair.source, form.render(order, "\x00").index("\x00"))
    found = template_tokens(tokenizer, corpus, template=template)
    assert found == wanted
    every = {token for pair in form.prompts([""] * 33, [p.source for p in corpus.pairs]) for token in pair}
    assert every - found  # the sentences have tokens of their own


def test_every_place_of_the_sentence_is_one(tokenizer):
    one = Corpus((Pair("quiz", "x"),), "en", "ca", "text")
    found = template_tokens(tokenizer, one, template="{source}, q {source}")
    assert found == walked(tokenizer, "quiz, q quiz", "quiz", 0, 8)
    assert found < set(tokenizer("quiz, q quiz")["input_ids"])


def test_what_cannot_be_told_apart_is_refused(tokenizer, corpus, monkeypatch):
    monkeypatch.setattr(PromptForm, "render", lambda _, order, source: f"{order} {source.upper()}")
    with pytest.raises(UserError, match="changes the sentence"):
        template_tokens(tokenizer, corpus)
    assert template_tokens(tokenizer, Corpus((), "en", "ca", "text")) == frozenset()
