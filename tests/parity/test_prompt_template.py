"""A token prompt in the exports: a plain chat message gets its tokens, in transformers and in llama.cpp's server."""

from __future__ import annotations

import pytest
import torch
from gguf_models import write
from llama_chat import ask_server
from transformers import AutoModelForCausalLM, AutoTokenizer

from ks_lottery import Corpus, export, load_model, open_checkpoint, tune
from ks_lottery.corpus.corpus import Pair
from ks_lottery.corpus.prompt_form import PromptForm
from ks_lottery.models.new_tokens import with_new_tokens
from ks_lottery.models.prompt_template import modelfile, prompt_chat_template
from ks_lottery.models.quiet import quiet
from ks_lottery.models.sides import installed_patch

SHAPE = 'Translate "this": {source}\nAnswer:'
COUNT = 12


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KS_LOTTERY_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def corpus():
    return Corpus((Pair("ab ba", "ba ab"), Pair("a b", "b a b"), Pair("the ab", "ab ab")), "en", "ca", "text")


def prompted(base, corpus, **more):
    settings = {"dtype": "float32", "device": "cpu", "epochs": 2, "learning_rate": 0.1, "template": SHAPE}
    return tune(base, corpus, method="token-prompt", tokens=6, **{**settings, **more})


def greedy(lm, ids, stop):
    out = lm.generate(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), do_sample=False,
                      max_new_tokens=COUNT, pad_token_id=stop, eos_token_id=stop)  # fmt: skip
    return out[0, len(ids) :].tolist()


@pytest.mark.parametrize("tied", [True, False])
def test_llama_cpp_answers_a_chat_message_in_the_prompt_and_plain_text_as_the_base(tmp_path, corpus, tied):
    file = write(tmp_path / "base.gguf", tied=tied)
    checkpoint = open_checkpoint(file)
    patch = prompted(checkpoint, corpus)
    assert patch.added.texts == tuple(f"<|prompt_{i}|>" for i in range(1, 7))
    before, after = patch.prompt.split("{source}")
    made = export(checkpoint, patch, tmp_path / "out", to="gguf", check=True)
    assert made.check.passed
    assert any("puts the tokens of the prompt around each message of the user" in note for note in made.notes)
    longer = with_new_tokens(load_model(checkpoint, dtype="float32", device="cpu"), patch)
    messages, texts = ["ab ba", "the a b"], ["ab ba", "b b a the"]
    told = ask_server(tmp_path / "out" / "model.gguf", messages, texts, COUNT)
    plain = ask_server(file, [], texts, COUNT)
    assert told["texts"] == plain["texts"]  # the same tokens as the base
    prompts = PromptForm(longer.tokenizer, patch.prompt).prompts([""] * 2, messages)
    stop = longer.tokenizer.eos_token_id
    with installed_patch(longer.lm, patch), torch.no_grad():
        wanted = [greedy(longer.lm, list(prompt), stop) for prompt in prompts]
    for chat, prompt, message, answer in zip(told["chats"], prompts, messages, wanted, strict=True):
        assert chat["prompt"] == f"{before}{message}{after}"
        assert tuple(chat["tokens"]) == prompt
        assert chat["answer"] == longer.tokenizer.decode(answer, skip_special_tokens=True)
    text = (tmp_path / "out" / "Modelfile").read_text()
    assert text.startswith(f'FROM ./model.gguf\nTEMPLATE """{before}{{{{ .Prompt }}}}{after}"""\n')


@pytest.mark.parametrize("to", ["merged", "peft"])
def test_transformers_puts_the_tokens_around_a_chat_message(tied_model, corpus, tmp_path, to):
    patch = prompted(str(tied_model), corpus)
    export(str(tied_model), patch, tmp_path / "out", to=to)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    chat = [{"role": "user", "content": "ab {{ ba }}"}]
    given = tokenizer.apply_chat_template(chat, add_generation_prompt=True)
    ids = given if isinstance(given, list) else given["input_ids"]
    longer = with_new_tokens(load_model(str(tied_model), dtype="float32", device="cpu"), patch)
    (prompt,) = PromptForm(longer.tokenizer, patch.prompt).prompts([""], ["ab {{ ba }}"])
    assert tuple(ids) == prompt
    assert set(patch.added.ids) <= set(prompt)
    more = [*chat, {"role": "assistant", "content": "ba"}, {"role": "user", "content": "a"}]
    before, after = patch.prompt.split("{source}")
    assert (
        tokenizer.apply_chat_template(more, tokenize=False) == f"{before}ab {{{{ ba }}}}{after}ba</s>{before}a{after}"
    )
    assert "puts the tokens of the prompt around each message" in (tmp_path / "out" / "README.md").read_text()
    if to == "merged":
        with quiet():
            merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
        with torch.no_grad(), installed_patch(longer.lm, patch):
            torch.testing.assert_close(
                merged(torch.tensor([ids])).logits, longer.lm(torch.tensor([ids])).logits, atol=1e-5, rtol=1e-5
            )


def test_a_beginning_of_sentence_is_written_once_and_reserved_tokens_get_a_chat_template(tmp_path, corpus):
    """A tokenizer that begins every text with <s>, and has tokens in reserve: the prompt brings no new one."""
    from reserve import make_reserve

    folder = make_reserve(tmp_path / "m", [f"<unused{i}>" for i in range(8)])
    patch = prompted(str(folder), corpus)
    assert patch.added is None
    export(str(folder), patch, tmp_path / "out", to="merged")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    given = tokenizer.apply_chat_template([{"role": "user", "content": "ab"}])
    ids = given if isinstance(given, list) else given["input_ids"]
    loaded = load_model(str(folder), dtype="float32", device="cpu")
    assert tuple(ids) == PromptForm(loaded.tokenizer, patch.prompt).prompts([""], ["ab"])[0]
    assert ids[0] == tokenizer.bos_token_id != ids[1]


def test_a_prompt_of_rows_without_text_is_said_to_have_no_chat_template(tmp_path, corpus):
    from reserve import make_reserve

    folder = make_reserve(tmp_path / "m", [])
    patch = prompted(str(folder), corpus)
    assert "{token:" in patch.prompt
    export(str(folder), patch, tmp_path / "out", to="merged")
    assert (
        "The chat template is the base's: tokens of the prompt cannot be written as text"
        in (tmp_path / "out" / "README.md").read_text()
    )
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template is None


def test_a_template_is_written_so_that_its_quotes_and_lines_survive(tied_model):
    tokenizer = AutoTokenizer.from_pretrained(tied_model)
    prompt = 'Say "é\\n"\n{source} and\t{source}\n'
    tokenizer.chat_template = prompt_chat_template(prompt, tokenizer)
    shown = tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)
    assert shown == prompt.replace("{source}", "x")
    assert modelfile("<a>{source}<b>", "m.gguf", "</s>") == (
        'FROM ./m.gguf\nTEMPLATE """<a>{{ .Prompt }}<b>"""\nPARAMETER stop "</s>"\n'
    )
