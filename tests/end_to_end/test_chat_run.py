"""A run with the chat template, and one on Alpaca text: training and translating see the same prompt."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from transformers import AutoTokenizer

from ks_lottery import Corpus, open_checkpoint
from ks_lottery.cli.main import main
from ks_lottery.corpus.batches import encode, longest
from ks_lottery.corpus.corpus import Pair
from ks_lottery.corpus.prompt_form import PromptForm
from ks_lottery.evaluation.translate import end_tokens, translate
from ks_lottery.models.load import load_model

TURNS = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ m['role'] + ': ' + m['content'] + ('</s>' if m['role'] == 'assistant' else '\n') }}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
FAST = [
    "--train.learning-rate", "0.1", "--train.epochs", "1", "--evaluate.translations", "2", "--evaluate.num-beams", "1",
    "--evaluate.max-new-tokens", "4", "--evaluate.resamples", "200", "--certify.alphas", "[0.5, 1.0]", "--text.min-pairs", "50",
]  # fmt: skip


@pytest.fixture(scope="module")
def chat_model(tied_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("chat") / "model"
    shutil.copytree(tied_model, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = TURNS
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def alpaca_file(text_file, tmp_path_factory):
    rows = [line.split("\t") for line in text_file.read_text(encoding="utf-8").splitlines()]
    file = tmp_path_factory.mktemp("alpaca") / "a.json"
    records = [{"instruction": "Posa-ho en català.", "input": source, "output": target} for source, target in rows]
    file.write_text(json.dumps(records), encoding="utf-8")
    return file


def test_all_stages_see_one_prompt(chat_model, alpaca_file, tmp_path, monkeypatch, capfd):
    seen: list[list[int]] = []

    def spy(lm, form, prompts, **more):
        seen.extend(list(prompt) for prompt in prompts)
        return translate(lm, form, prompts, **more)

    monkeypatch.setattr("ks_lottery.evaluation.translated.translate", spy)
    monkeypatch.setattr("ks_lottery.recipes.translation.translate", spy)
    out = tmp_path / "run"
    call = [
        "run",
        "--model.name",
        str(chat_model),
        "--text.train",
        str(alpaca_file),
        "--text.template",
        "chat",
        "--out",
        str(out),
    ]
    assert main([*call, *FAST]) == 0
    report = json.loads((out / "text" / "report.json").read_text())
    assert report["instruction"] == "Posa-ho en català."
    tokenizer = AutoTokenizer.from_pretrained(chat_model)
    test = [json.loads(line) for line in (out / "text" / "test.jsonl").read_text().splitlines()]

    def expected(source):
        message = {"role": "user", "content": f"Posa-ho en català.\n{source}"}
        return tokenizer.apply_chat_template([message], add_generation_prompt=True, return_dict=False)

    assert seen[:2] == [expected(row["source"]) for row in test[:2]]
    pairs = tuple(Pair(row["source"], row["target"], instruction=row["instruction"]) for row in test)
    examples, _ = encode(tokenizer, Corpus(pairs, "en", "ca", "test"), template="chat")
    assert [list(example.prompt) for example in examples] == [expected(row["source"]) for row in test]
    seen.clear()
    capfd.readouterr()
    assert main(["translate", str(out), "The house is old"]) == 0
    assert seen == [expected("The house is old")]
    assert len(capfd.readouterr().out.splitlines()) == 1


def test_too_long_examples_say_what_keeps_them(tied_model, text_file, tmp_path, capfd):
    out = tmp_path / "run"
    call = ["run", "--model.name", str(tied_model), "--text.train", str(text_file), "--out", str(out), *FAST]
    assert main([*call, "--text.max-tokens", "231"]) == 0
    lines = (out / "log.txt").read_text().splitlines()
    (line,) = [line for line in lines if "left out as too long" in line]
    need = int(line.rsplit("text.max_tokens ", maxsplit=1)[1].split()[0])
    assert "(over 231 tokens; text.max_tokens" in line
    tokenizer = AutoTokenizer.from_pretrained(tied_model)
    splits = [
        [json.loads(row) for row in (out / "text" / f"{name}.jsonl").read_text().splitlines()]
        for name in ("train", "test")
    ]
    corpora = [Corpus(tuple(Pair(r["source"], r["target"]) for r in rows), "en", "ca", "t") for rows in splits]
    assert need == max(longest(tokenizer, corpus) for corpus in corpora)
    for corpus in corpora:
        assert len(encode(tokenizer, corpus, max_tokens=need)[0]) == len(corpus)
    assert any(len(encode(tokenizer, corpus, max_tokens=need - 1)[0]) < len(corpus) for corpus in corpora)


def test_a_base_model_is_refused_before_anything_is_written(tied_model, text_file, tmp_path, capfd):
    out = tmp_path / "run"
    call = [
        "run",
        "--model.name",
        str(tied_model),
        "--text.train",
        str(text_file),
        "--text.template",
        "chat",
        "--out",
        str(out),
    ]
    assert main([*call, *FAST]) == 2
    assert "has no chat template" in capfd.readouterr().err
    assert not out.exists()


def test_generation_stops_at_the_turn_s_end_and_at_the_model_s_own(tied_model):
    """The end of turn need not be the tokenizer's end of sentence (Gemma, Phi), and the generation config may name more."""
    loaded = load_model(open_checkpoint(str(tied_model)), dtype="float32", device="cpu")
    tokenizer = loaded.tokenizer
    tokenizer.chat_template = TURNS.replace("</s>", "<pad>")
    form = PromptForm(tokenizer, "chat")
    assert form.end == 0
    loaded.lm.generation_config.eos_token_id = [2, 7]
    assert end_tokens(loaded.lm, form) == [0, 2, 7]
    (prompt,) = form.prompts(["Do it."], ["a"])
    answer = [40, 41, 42]
    for end in (0, 2, 7):
        script = iter([*answer, end, 50, 51])

        def scripted(module, inputs, output, script=script):
            forced = torch.full_like(output.logits, -1e9)
            forced[:, -1, next(script)] = 0.0
            output.logits = forced
            return output

        hook = loaded.lm.register_forward_hook(scripted)
        (output,) = translate(loaded.lm, form, [prompt], num_beams=1, max_new_tokens=6)
        hook.remove()
        assert output.sentence == " ".join(tokenizer.decode(answer).split())
        assert next(script, None) == 50  # nothing was generated after the end
