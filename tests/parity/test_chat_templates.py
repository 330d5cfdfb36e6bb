"""The chat template: tokens are those of transformers' own apply_chat_template, for the ways that models write their turns."""

from __future__ import annotations

from datetime import date

import pytest
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from ks_lottery import Corpus, UserError, open_checkpoint
from ks_lottery.corpus.batches import encode
from ks_lottery.corpus.corpus import Pair
from ks_lottery.corpus.prompt_form import PromptForm
from ks_lottery.models.load import load_tokenizer

CHATML = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou help.<|im_end|>\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA2 = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + m['content'].strip() + ' [/INST]' }}"
    "{% elif m['role'] == 'assistant' %}{{ ' ' + m['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) "
    "+ '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
THINKING = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% if m['role'] == 'assistant' and loop.last %}"
    "{{ '<think>\n\n</think>\n\n' }}{% endif %}{{ m['content'] + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% if enable_thinking is defined and enable_thinking is false %}"
    "{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
CHANNEL = (
    "{% for m in messages %}{{ '<|start|>' + m['role'] }}{% if m['role'] == 'assistant' %}{{ '<|channel|>final' }}{% endif %}"
    "{{ '<|message|>' + m['content'] + ('<|return|>' if loop.last and m['role'] == 'assistant' else '<|end|>') }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"
)
BARE = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"  # noqa: E501
WITH_DATE = "{{ strftime_now('%d %b %Y') }}" + CHATML

EXTRA = ["<|im_start|>", "<|im_end|>", "<start_of_turn>", "<end_of_turn>", "<|start|>", "<|message|>", "<|channel|>",
         "<|return|>", "<|end|>"]  # fmt: skip

CORPUS = Corpus(
    (Pair("The dog eats", "El gos menja"), Pair("The house", "La casa", instruction="Tradueix.")), "en", "ca", "t"
)


@pytest.fixture
def tokenizer(tied_model):
    """A tokenizer that begins each text with <s> by itself, as LLaMA's does."""
    found = load_tokenizer(open_checkpoint(str(tied_model)))
    core = found.backend_tokenizer
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    made = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    made.add_special_tokens({"additional_special_tokens": EXTRA})
    made.add_tokens(["<think>", "</think>"])
    assert made("x")["input_ids"][0] == 1
    return made


def whole(tokenizer, message, answer=None, **more):
    messages = [{"role": "user", "content": message}]
    if answer is not None:
        messages.append({"role": "assistant", "content": answer})
    return tokenizer.apply_chat_template(messages, add_generation_prompt=answer is None, return_dict=False, **more)


@pytest.mark.parametrize(
    ("template", "end", "more"),
    [
        (CHATML, "<|im_end|>", {}),
        (LLAMA2, "</s>", {}),
        (GEMMA, "<end_of_turn>", {}),
        (THINKING, "<|im_end|>", {"enable_thinking": False}),
    ],
    ids=["chatml", "llama2", "gemma", "thinking"],
)
def test_prompt_and_response_are_those_of_transformers(tokenizer, template, end, more):
    tokenizer.chat_template = template
    form = PromptForm(tokenizer, "chat")
    assert tokenizer.convert_ids_to_tokens(form.end) == end
    examples, _ = encode(tokenizer, CORPUS, template="chat")
    orders = ("Translate the following sentence from English to Catalan.", "Tradueix.")
    for example, order, pair in zip(examples, orders, CORPUS, strict=True):
        message = f"{order}\n{pair.source}"
        prompt = whole(tokenizer, message, **more)
        assert list(example.prompt) == prompt == list(form.prompts([order], [pair.source])[0])
        assert prompt.count(1) <= 1
        conversation = whole(tokenizer, message, pair.target, **more)
        assert conversation[: len(example)] == example.sequence
        assert example.response[-1] == form.end
        assert form.end not in example.response[:-1]


def test_what_a_model_would_have_to_say_first_belongs_to_the_prompt(tokenizer):
    tokenizer.chat_template = CHANNEL
    (prompt,) = PromptForm(tokenizer, "chat").prompts(["Do it."], ["a"])
    assert tokenizer.decode(
        prompt
    ) == "<|start|>userDo it.\na<|end|><|start|>assistant<|channel|>final<|message|>".replace(
        "<|start|>user", "<|start|>user<|message|>", 1
    )
    (response,) = PromptForm(tokenizer, "chat").responses(["b"])
    assert tokenizer.decode(response) == "b<|return|>"


def test_a_template_without_an_end_token_gets_the_tokenizer_s(tokenizer):
    tokenizer.chat_template = BARE
    (response,) = PromptForm(tokenizer, "chat").responses(["b"])
    assert tokenizer.decode(response) == "b</s>"


def test_a_prompt_is_the_same_on_another_day(tokenizer):
    tokenizer.chat_template = WITH_DATE
    assert PromptForm(tokenizer, "chat").render("Do it.", "a").startswith("26 Jul 2024<|im_start|>system")
    today = tokenizer.apply_chat_template([{"role": "user", "content": "a"}], tokenize=False)
    assert today.startswith(date.today().strftime("%d %b %Y"))


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "template chat: the model's tokenizer has no chat template"),
        (
            "{{ raise_exception('a system turn is needed') }}",
            "cannot be used for a user's turn: a system turn is needed",
        ),
        ("{% for m in messages %}{{ m['role'] }}{% endfor %}", "does not show the model's answer"),
        ("{% for m in messages %}", "cannot be used for a user's turn"),
    ],
)
def test_templates_that_cannot_be_used(tokenizer, template, message):
    tokenizer.chat_template = template
    with pytest.raises(UserError, match=message) as caught:
        encode(tokenizer, CORPUS, template="chat")
    assert "\n" not in str(caught.value)
