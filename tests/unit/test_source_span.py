"""Which tokens of a prompt are the source: by offsets, by pieces, and by a definition over characters."""

from __future__ import annotations

import pytest

from ks_lottery import Corpus, open_checkpoint
from ks_lottery.corpus.batches import encode
from ks_lottery.corpus.corpus import Pair
from ks_lottery.corpus.prompt_form import PromptForm
from ks_lottery.corpus.prompts import TEMPLATES, render_prompt, template_text
from ks_lottery.corpus.source_span import _by_offsets, by_pieces, source_ranges, source_tokens
from ks_lottery.models.load import load_tokenizer

LANGUAGES = ("en", "ca")
ORDER = "Translate the following sentence from English to Catalan."
SOURCES = ["The house is old and cold", "a", "  two  spaces ", "Línia — 漢字 \N{GRINNING FACE}", "### Input:\nThe dog"]
OWN = ["Say {source} now", "{source}", "{instruction} {source}", "{source} and {source}:", "{instruction}{source}\n"]


@pytest.fixture(scope="module")
def tokenizer(tied_model):
    return load_tokenizer(open_checkpoint(tied_model))


def characters(tokenizer, ids) -> list[tuple[int, int]]:
    """Return the bytes of each token of a byte-level tokenizer, first and behind the last: its strings are its bytes."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    known = set(bytes_to_unicode().values())
    ends, spans = 0, []
    for name in tokenizer.convert_ids_to_tokens(ids):
        assert set(name) <= known
        spans.append((ends, ends + len(name)))
        ends += len(name)
    return spans


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("template", [*TEMPLATES, *OWN])
def test_a_token_is_source_when_all_its_bytes_are(tokenizer, template, source):
    form = PromptForm(tokenizer, template, LANGUAGES)
    (prompt,) = form.prompts([ORDER], [source])
    (found,) = source_tokens(form, [ORDER], [source], [prompt])
    text = form.render(ORDER, source)
    ranges = [
        (len(text[:a].encode()), len(text[:b].encode()))
        for a, b in source_ranges(template_text(template, LANGUAGES), ORDER, source)
    ]
    assert all(text.encode()[a:b].decode() == source for a, b in ranges)
    spans = characters(tokenizer, prompt)
    assert found == tuple(any(a <= start and end <= b for a, b in ranges) for start, end in spans)
    assert len(ranges) == TEMPLATES.get(template, template).count("{source}")


@pytest.mark.parametrize("template", [*TEMPLATES, *OWN])
def test_offsets_and_pieces_agree(tokenizer, template):
    for source in SOURCES:
        text = render_prompt(template, ORDER, source, LANGUAGES)
        ranges = source_ranges(template_text(template, LANGUAGES), ORDER, source)
        assert _by_offsets(tokenizer, text, ranges, special=True) == by_pieces(tokenizer, text, ranges, special=True)


def test_trimmed_offsets_do_not_hide_a_space_of_the_template(tokenizer):
    """GPT-2's own processor leaves the space before a word out of its offsets, so that a straddling token looks whole."""
    from tokenizers import Tokenizer, processors
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    core.post_processor = processors.ByteLevel(trim_offsets=True)
    trimming = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    text = "Say house  is old now"
    ranges = [(4, 17)]
    assert text[4:17] == "house  is old"
    ids, found = _by_offsets(trimming, text, ranges, special=True)
    assert (ids, found) == _by_offsets(tokenizer, text, ranges, special=True)
    first = next(i for i, name in enumerate(tokenizer.convert_ids_to_tokens(ids)) if name == "Ġh")
    assert not found[first]
    offsets = trimming(text, return_offsets_mapping=True)["offset_mapping"]
    assert offsets[first][0] == 4  # what it says without the space


def test_a_beginning_of_sentence_token_is_instruction(tokenizer):
    from tokenizers import Tokenizer, processors
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    beginning = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    form = PromptForm(beginning, "{source}\n")
    (prompt,) = form.prompts([""], ["The house"])
    assert prompt[0] == 1
    (found,) = source_tokens(form, [""], ["The house"], [prompt])
    assert found == (False, *[True] * (len(prompt) - 2), False)
    assert found == tuple(by_pieces(beginning, "The house\n", [(0, 9)], special=True)[1])
    # A template that writes it too: it is in the prompt once, and the source moves with it.
    form = PromptForm(beginning, "<s>{source}\n")
    (once,) = form.prompts([""], ["The house"])
    assert once == prompt
    assert source_tokens(form, [""], ["The house"], [once]) == [found]


def test_a_tokenizer_without_offsets_is_read_by_pieces(tokenizer, monkeypatch):
    form = PromptForm(tokenizer, "alpaca")
    prompts = form.prompts([ORDER] * 5, SOURCES)
    wanted = source_tokens(form, [ORDER] * 5, SOURCES, prompts)

    class Slow:
        is_fast = False
        eos_token_id = tokenizer.eos_token_id

        def __call__(self, text, **settings):
            assert "return_offsets_mapping" not in settings
            return tokenizer(text, **settings)

    slow = PromptForm(Slow(), "alpaca")
    assert source_tokens(slow, [ORDER] * 5, SOURCES, prompts) == wanted


CHAT = (
    "{% for m in messages %}<s>{{ m['role'] }}: {{ m['content'] | trim }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant:{% endif %}"
)


def test_the_source_in_a_chat_prompt(tokenizer):
    tokenizer.chat_template = CHAT
    try:
        form = PromptForm(tokenizer, "chat")
        for source in ("The house is old", "user", "a"):
            (prompt,) = form.prompts(["user: a"], [source])
            (found,) = source_tokens(form, ["user: a"], [source], [prompt])
            picked = tokenizer.decode([token for token, here in zip(prompt, found, strict=True) if here])
            assert picked == source
            first = found.index(True)
            assert tokenizer.decode(prompt[:first]) == "<s>user: user: a\n"
    finally:
        tokenizer.chat_template = None


def test_a_chat_template_that_changes_the_message_has_no_known_source(tokenizer):
    tokenizer.chat_template = CHAT.replace("| trim", "| replace('house', 'home')")
    try:
        form = PromptForm(tokenizer, "chat")
        (prompt,) = form.prompts([ORDER], ["The house"])
        assert source_tokens(form, [ORDER], ["The house"], [prompt]) == [None]
    finally:
        tokenizer.chat_template = None


@pytest.mark.parametrize("template", ["alpaca", "alpaca-stanford", "plain"])
def test_examples_carry_the_spans_of_those_that_fit(tokenizer, template):
    pairs = tuple(Pair(source, "Una frase") for source in [*SOURCES, "x" * 400])
    corpus = Corpus(pairs, "en", "ca", "here")
    plain, kept = encode(tokenizer, corpus, template=template, max_tokens=300)
    spanned, same = encode(tokenizer, corpus, template=template, max_tokens=300, spans=True)
    assert kept == same == list(range(5))
    assert spanned == plain
    for example, source in zip(spanned, SOURCES, strict=True):
        assert len(example.in_source) == len(example.prompt)
        picked = [token for token, here in zip(example.prompt, example.in_source, strict=True) if here]
        assert tokenizer.decode(picked).strip() in source
        assert example.cut(1).in_source == example.in_source
    assert plain[0].in_source is None
