"""Languages, instructions and templates."""

from __future__ import annotations

import pytest
from tokenizers.processors import TemplateProcessing

from ks_lottery import Corpus, UserError, open_checkpoint
from ks_lottery.corpus.batches import encode
from ks_lottery.corpus.corpus import Pair
from ks_lottery.corpus.languages import language_name
from ks_lottery.corpus.prompt_form import PromptForm
from ks_lottery.corpus.prompts import JOINT, TEMPLATES, instruction, render_prompt
from ks_lottery.models.load import load_tokenizer


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("ca", "Catalan"),
        ("CA", "Catalan"),
        ("nb", "Norwegian Bokmål"),
        ("pt_BR", "Portuguese (Brazil)"),
        ("pt-br", "Portuguese (Brazil)"),
        ("sr_Latn", "Serbian (Latin)"),
        ("zh_Hans", "Chinese (Simplified)"),
        ("Catalan", "Catalan"),
    ],
)
def test_names(code, name):
    assert language_name(code) == name


@pytest.mark.parametrize(("code", "near"), [("catalan", "Catalan"), ("xq", ""), ("ca_QQQ", "ca"), ("", "")])
def test_unknown_languages(code, near):
    with pytest.raises(UserError, match="is not known") as caught:
        language_name(code)
    assert near in str(caught.value)


def test_alpaca_is_the_published_wording_with_a_line_break_of_ours():
    prompt = render_prompt("alpaca", instruction("en", "ca"), "Good morning.")
    assert prompt == (
        "Below is an instruction that describes a task, paired with an input that provides further context. "
        "Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nTranslate the following sentence from English to Catalan.\n\n"
        "### Input:\nGood morning.\n\n### Response:\n"
    )


def test_the_published_forms_are_offered_as_they_are():
    """`PROMPT_DICT["prompt_input"]` of Stanford Alpaca's train.py, and of two files of the authors' code (arXiv 2311.09071)."""
    stanford = (
        "Below is an instruction that describes a task, paired with an input that provides further context. "
        "Write a response that appropriately completes the request.\n\n"
        "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:"
    )
    example = {"instruction": "Translate.", "input": "Good morning."}
    assert render_prompt("alpaca-stanford", *example.values()) == stanford.format_map(example)
    assert render_prompt("alpaca-single", *example.values()) == stanford.replace("\n\n", "\n").format_map(example)
    assert TEMPLATES["alpaca"] == TEMPLATES["alpaca-stanford"] + "\n"


@pytest.mark.parametrize("template", sorted(JOINT))
def test_published_forms_are_tokenized_as_one_text(tied_model, template):
    """As `preprocess` of Stanford Alpaca's train.py does: labels begin after as many tokens as the prompt has by itself."""
    tokenizer = load_tokenizer(open_checkpoint(str(tied_model)))
    pairs = (Pair("The house is old", "La casa"), Pair("A dog", "\n  Un gos"), Pair("Nothing", ""))
    corpus = Corpus(pairs=pairs, source_language="en", target_language="ca", origin="here")
    examples, _ = encode(tokenizer, corpus, template=template)
    order = instruction("en", "ca")
    for pair, example in zip(pairs, examples, strict=True):
        prompt = render_prompt(template, order, pair.source)
        whole = tokenizer(prompt + pair.target + tokenizer.eos_token)["input_ids"]
        assert example.sequence == whole
        assert len(example.prompt) == len(tokenizer(prompt)["input_ids"])
    form = PromptForm(tokenizer, template)
    assert form.prompts([order], ["The house is old"])[0] == examples[0].prompt  # what generation meets
    assert form.pairs([], [], []) == []


def test_a_merge_over_the_boundary_is_kept_as_it_is():
    """Stanford's labels then begin inside what the prompt by itself does not end in."""

    class Merging:
        eos_token_id = 9

        def __call__(self, texts, **_):
            return {"input_ids": [[1, *(2 if part == ":L" else 3 for part in text.split("|"))] for text in texts]}

    class Form(PromptForm):
        def render(self, order, source):
            return "a|:"

    form = Form(Merging(), "alpaca-stanford")
    assert form.pairs(["o"], ["s"], ["L|a"]) == [((1, 3, 2), (3, 9))]


@pytest.mark.parametrize("template", [*TEMPLATES, "{instruction}: {source} ->"])
@pytest.mark.parametrize("sentence", ["plain", "with {source} and {instruction}", r"\1 \g<0>", "100% {0} {}"])
def test_the_sentence_stays_as_it_is(template, sentence):
    assert sentence in render_prompt(template, "Translate.", sentence, ("en", "ca"))


@pytest.mark.parametrize("template", ["alpacca", "no place"])
def test_unknown_templates(template):
    with pytest.raises(UserError, match=r"^unknown template '.*': use alpaca, .*, or a text .* contains \{source\}$"):
        render_prompt(template, "", "")


@pytest.mark.parametrize("adds", [False, True])
@pytest.mark.parametrize("template", ["<s>{instruction}\n{source}\n", "{source} =>", "<s> {source}", "plain"])
def test_the_beginning_of_sentence_is_there_once(tied_model, adds, template):
    """With a tokenizer that adds it and one that does not; the rest as transformers tokenizes it."""
    tokenizer = load_tokenizer(open_checkpoint(str(tied_model)))
    if adds:
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", tokenizer.bos_token_id)]
        )
    order = "<s>Translate." if template == "plain" else "Translate."
    form = PromptForm(tokenizer, template)
    text = form.render(order, "The house")
    (ids,) = form.prompts([order], ["The house"])
    begins = tokenizer.bos_token_id
    plain = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert list(ids) == (plain if text.startswith("<s>") else [begins] * adds + plain)
    assert ids.count(begins) == (adds or text.startswith("<s>"))
    assert form.pairs([order], ["The house"], ["La casa"])[0][0] == ids


ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:"
)
"""``prompt_no_input`` of Stanford Alpaca's train.py."""


def test_an_instruction_without_input_gets_the_published_prompt():
    wanted = ALPACA.replace("{instruction}", "Name {source}.")
    assert render_prompt("alpaca-stanford", "Name {source}.", "") == wanted
    assert render_prompt("alpaca", "Name {source}.", " ") == f"{wanted}\n"
    assert render_prompt("alpaca-single", "Name {source}.", "") == wanted.replace("\n\n", "\n")
    assert render_prompt("plain", "Name it.", "") == "Name it.\n"
    assert render_prompt("{instruction}\n{source} =>", "Name it.", "") == "Name it.\n =>"


@pytest.mark.parametrize("template", ["labels", "question", "text-first", "request", "{source} =>"])
def test_a_template_that_shows_no_instruction_cannot_show_it_alone(template):
    with pytest.raises(UserError, match="shows no instruction, and an example has nothing but one: use alpaca"):
        render_prompt(template, "Name it.", "", ("en", "ca"))
