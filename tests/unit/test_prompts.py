"""Languages, instructions and templates."""

from __future__ import annotations

import pytest

from ks_lottery import UserError
from ks_lottery.corpus.languages import language_name
from ks_lottery.corpus.prompts import TEMPLATES, instruction, render_prompt


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


def test_alpaca_is_the_published_wording():
    prompt = render_prompt("alpaca", instruction("en", "ca"), "Good morning.")
    assert prompt == (
        "Below is an instruction that describes a task, paired with an input that provides further context. "
        "Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nTranslate the following sentence from English to Catalan.\n\n"
        "### Input:\nGood morning.\n\n### Response:\n"
    )


@pytest.mark.parametrize("template", [*TEMPLATES, "{instruction}: {source} ->"])
@pytest.mark.parametrize("sentence", ["plain", "with {source} and {instruction}", r"\1 \g<0>", "100% {0} {}"])
def test_the_sentence_stays_as_it_is(template, sentence):
    assert sentence in render_prompt(template, "Translate.", sentence)


@pytest.mark.parametrize("template", ["alpacca", "no place"])
def test_unknown_templates(template):
    with pytest.raises(UserError, match=r"is not known .* no place for \{source\}"):
        render_prompt(template, "", "")
