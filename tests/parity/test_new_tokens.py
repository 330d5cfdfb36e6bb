"""Rows of new tokens against transformers, which resizes the matrices and trains the same rows under a masked gradient."""

from __future__ import annotations

import json
import re
import warnings

import gguf
import numpy as np
import pytest
import torch
from gguf_models import V, write
from torch.nn.utils import clip_grad_norm_
from transformers import AutoModelForCausalLM, AutoTokenizer, get_cosine_schedule_with_warmup

import ks_lottery
from ks_lottery import Corpus, RowPatch, UserError, export, load_model, open_checkpoint, tune
from ks_lottery.corpus.corpus import Pair
from ks_lottery.corpus.prompt_form import PromptForm
from ks_lottery.models.new_tokens import with_new_tokens
from ks_lottery.models.quiet import quiet
from ks_lottery.models.sides import installed_patch

TOKENS = ("<a>", "<b>", "<c>")
TEMPLATE = "<a>{source}<b>"
STEPS, RATE = 6, 0.02


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KS_LOTTERY_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def corpus():
    """Pairs of unequal length, whose answers have a new token too."""
    texts = [
        ("The house is old", "La casa<c> és vella"),
        ("A dog", "Un<c> gos"),
        ("We save the file", "Desem el fitxer"),
    ]
    return Corpus(tuple(Pair(*text) for text in texts), "en", "ca", "text")


@pytest.fixture(scope="module", params=["tied_model", "untied_model"])
def folder(request):
    return request.getfixturevalue(request.param)


def resized(folder, count=387):
    """The model of transformers with longer matrices: each new row is the mean of the others on its side."""
    with quiet():
        lm = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    before = lm.get_input_embeddings().num_embeddings
    means = [m.weight.detach().mean(dim=0) for m in (lm.get_input_embeddings(), lm.get_output_embeddings())]
    lm.resize_token_embeddings(count, mean_resizing=False)
    with torch.no_grad():
        for module, mean in zip((lm.get_input_embeddings(), lm.get_output_embeddings()), means, strict=True):
            module.weight[before:] = mean
    return lm.eval()


def longer_tokenizer(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(list(TOKENS))
    return tokenizer


def batch_of(tokenizer, corpus):
    """Inputs and labels as transformers has them, made with its tokenizer alone."""
    texts = [
        (tokenizer(f"<a>{p.source}<b>").input_ids, [*tokenizer(p.target).input_ids, tokenizer.eos_token_id])
        for p in corpus
    ]
    length = max(len(a) + len(b) for a, b in texts)
    batch = {
        name: torch.full((len(texts), length), fill)
        for name, fill in (("input_ids", 0), ("attention_mask", 0), ("labels", -100))
    }
    for row, (prompt, answer) in enumerate(texts):
        n = len(prompt) + len(answer)
        batch["input_ids"][row, :n] = torch.tensor([*prompt, *answer])
        batch["attention_mask"][row, :n] = 1
        batch["labels"][row, len(prompt) : n] = torch.tensor(answer)
    return batch


@pytest.mark.parametrize("side", ["input", "output", "both"])
def test_the_rows_are_those_of_resized_matrices_trained_under_a_masked_gradient(folder, corpus, side):
    loaded = load_model(str(folder), dtype="float32", device="cpu")
    before = {name: tensor.clone() for name, tensor in loaded.lm.state_dict().items()}
    settings = {"epochs": STEPS, "learning_rate": RATE, "warmup_ratio": 0.3, "template": TEMPLATE, "side": side}
    also = ks_lottery.Tickets(rows=np.array([70, 40]), rule={})
    patch = tune(loaded, corpus, method="new-tokens", tokens=list(TOKENS), also_rows=also, **settings)
    assert patch.ids.tolist() == [40, 70, 384, 385, 386]
    assert all(torch.equal(tensor, before[name]) for name, tensor in loaded.lm.state_dict().items())  # bit for bit
    assert len(loaded.tokenizer) == 384

    lm = resized(folder)
    embedding, head = lm.get_input_embeddings(), lm.get_output_embeddings()
    tied = embedding.weight is head.weight
    if tied and side != "both":  # one side of a tied model: the other keeps its values
        head.weight = torch.nn.Parameter(head.weight.detach().clone())
    lm.requires_grad_(False)
    trained = {"input": [embedding], "output": [head], "both": [embedding] if tied else [embedding, head]}[side]
    weights = [module.weight.requires_grad_(True) for module in trained]
    mask = torch.zeros(387, 1)
    mask[torch.from_numpy(patch.ids)] = 1
    optimizer = torch.optim.Adam(weights, lr=RATE)
    schedule = get_cosine_schedule_with_warmup(optimizer, 2, STEPS)
    batch = batch_of(longer_tokenizer(folder), corpus)
    for _ in range(STEPS):
        lm(**batch).loss.backward()
        for weight in weights:
            weight.grad *= mask
        clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    for weight, values in zip(weights, (patch.values, patch.output_values), strict=False):
        wanted = weight.detach()[torch.from_numpy(patch.ids)]
        assert (values - wanted).abs().max() < RATE * 0.02  # far below a step
    start = resized(folder).get_input_embeddings().weight.detach()[torch.from_numpy(patch.ids)]
    assert (patch.values - start).abs().max() > RATE  # they were trained
    with installed_patch(loaded.lm, patch), torch.no_grad():
        ours = loaded.lm(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    with torch.no_grad():
        theirs = lm(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    assert ours.shape == theirs.shape == (3, batch["input_ids"].shape[1], 387)
    torch.testing.assert_close(ours, theirs, atol=0.02, rtol=0.02)


@pytest.fixture(params=["input", "output", "both"])
def tuned(request, folder, corpus):
    settings = {"epochs": 3, "learning_rate": 0.1, "template": TEMPLATE, "dtype": "float32", "device": "cpu"}
    return tune(str(folder), corpus, method="new-tokens", tokens=",".join(TOKENS), side=request.param, **settings)


def logits_of(folder, patch):
    """Ours, of a sentence with all new tokens and without any."""
    loaded = with_new_tokens(load_model(str(folder), dtype="float32", device="cpu"), patch)
    ids = torch.tensor([loaded.tokenizer("<a>The house<b>La<c> casa").input_ids])
    assert sorted(set(ids[0].tolist()) & {384, 385, 386}) == [384, 385, 386]
    with installed_patch(loaded.lm, patch), torch.no_grad():
        return ids, loaded.lm(ids).logits


def test_merged_and_peft_answer_alike_and_the_longer_vocabulary_comes_back(
    folder, corpus, tuned, tmp_path, monkeypatch
):
    from peft import PeftModel

    tuned.save(tmp_path / "patch")
    again = RowPatch.open(tmp_path / "patch")
    assert again == tuned
    assert again.added.texts == TOKENS
    ids, wanted = logits_of(folder, again)
    export(str(folder), again, tmp_path / "merged", to="merged")
    export(str(folder), again, tmp_path / "peft", to="peft")
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32).eval()
        base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        base.resize_token_embeddings(387, mean_resizing=False)
        adapted = PeftModel.from_pretrained(base, str(tmp_path / "peft")).eval()
    assert merged.config.vocab_size == 387
    for place in ("merged", "peft"):
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / place)
        assert tokenizer.convert_tokens_to_ids(list(TOKENS)) == [384, 385, 386]
    with torch.no_grad():
        torch.testing.assert_close(merged(ids).logits, wanted, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(adapted(input_ids=ids).logits, wanted, atol=1e-5, rtol=1e-5)
    readme = (tmp_path / "peft" / "README.md").read_text()
    assert "base.resize_token_embeddings(387, mean_resizing=False)" in readme
    (code,) = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path / "peft")
    names: dict = {}
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(code, names)  # what the README says loads it
    with torch.no_grad():
        torch.testing.assert_close(names["model"](input_ids=ids).logits, wanted, atol=1e-5, rtol=1e-5)
    assert names["tokenizer"].convert_tokens_to_ids("<c>") == 386
    assert sum(file.stat().st_size for file in (tmp_path / "patch").iterdir()) < 8_000
    with pytest.raises(
        UserError, match="adds rows to the 384 of the base, and a LoRA cannot: export it as merged, gguf or peft"
    ):
        export(str(folder), again, tmp_path / "lora", to="lora")
    for place in ("merged", "peft"):
        made = export(str(folder), again, tmp_path / place, to=place, check=True)
        assert made.check.passed
        assert any("the matrix grows from 384 to 387 rows" in note for note in made.notes)
    with pytest.raises(
        UserError, match="has a row for token 386, and .* has 384 rows: use the patch that it was exported"
    ):
        ks_lottery.evaluate(str(folder), corpus, product=tmp_path / "peft", metrics=["accuracy"])


def test_the_rows_in_the_weights_are_those_beside_them(folder, tuned):
    ids, wanted = logits_of(folder, tuned)
    loaded = load_model(str(folder), dtype="float32", device="cpu")
    with ks_lottery.applied(tuned, loaded) as lm, torch.no_grad():
        assert len(loaded.tokenizer) == 387
        torch.testing.assert_close(lm(ids).logits, wanted)
    assert len(loaded.tokenizer) == 384
    assert loaded.lm.config.vocab_size == 384
    ks_lottery.applied(tuned, loaded, permanently=True)
    assert loaded.tokenizer.convert_tokens_to_ids("<c>") == 386
    assert loaded.checkpoint.vocabulary == 387
    with torch.no_grad():
        torch.testing.assert_close(loaded.lm(ids).logits, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("side", ["input", "both"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", ["F32", "Q8_0", "Q6_K"])
def test_llama_cpp_knows_the_tokens_and_answers_like_transformers(tmp_path, corpus, kind, tied, side):
    file = write(tmp_path / "base.gguf", kind=kind, tied=tied)
    checkpoint = open_checkpoint(file)
    settings = {"epochs": 2, "learning_rate": 0.1, "template": TEMPLATE, "dtype": "float32", "device": "cpu"}
    patch = tune(checkpoint, corpus, method="new-tokens", tokens=["<a>", "<b>", "<c>"], side=side, **settings)
    first = len(load_model(checkpoint).tokenizer)  # transformers gives this file one token more than it lists
    assert patch.added.ids == (first, first + 1, first + 2)
    made = export(checkpoint, patch, tmp_path / "out", to="gguf", check=True)
    assert made.check.passed
    assert made.check.told >= 3
    before, after = gguf.GGUFReader(file), gguf.GGUFReader(tmp_path / "out" / "model.gguf")
    tensors = {tensor.name: tensor for tensor in after.tensors}
    for tensor in before.tensors:
        if tensor.name not in {"token_embd.weight", "output.weight"}:
            assert tensors[tensor.name].data.tobytes() == tensor.data.tobytes()
    assert tensors["token_embd.weight"].shape.tolist()[1] == first + 3
    names = after.fields["tokenizer.ggml.tokens"].contents()
    assert names[:V] == before.fields["tokenizer.ggml.tokens"].contents()
    assert names[first:] == list(TOKENS)
    assert after.fields["tokenizer.ggml.token_type"].contents()[first:] == [4, 4, 4]
    assert after.fields["llama.vocab_size"].contents() == first + 3
    again = open_checkpoint(tmp_path / "out" / "model.gguf")
    tokenizer = load_model(again, dtype="float32", device="cpu").tokenizer
    assert (
        tokenizer("<a>ab<c>").input_ids
        == with_new_tokens(load_model(checkpoint), patch).tokenizer("<a>ab<c>").input_ids
    )
    with pytest.raises(UserError, match="adds 3 tokens to the vocabulary, and a LoRA for llama.cpp has no vocabulary"):
        export(checkpoint, patch, tmp_path / "lora", to="gguf-lora")


def test_a_chat_template_that_uses_the_tokens_gives_their_ids(folder, corpus, tmp_path):
    """A template whose marks the tokenizer splits until they are tokens."""
    loaded = load_model(str(folder), dtype="float32", device="cpu")
    loaded.tokenizer.chat_template = (
        "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    marks = ["<|user|>", "<|assistant|>", "<|end|>"]
    patch = tune(loaded, corpus, method="new-tokens", tokens=marks, template="chat", side="both", epochs=1)
    longer = with_new_tokens(loaded, patch)
    form = PromptForm(longer.tokenizer, "chat")
    prompt = form.prompts(["Translate."], ["A dog"])[0]
    assert [token for token in prompt if token >= 384] == [384, 386, 385]
    assert form.end == 386
    assert form.responses(["Un gos"])[0][-1] == 386
    chat = longer.tokenizer.apply_chat_template([{"role": "user", "content": "A dog"}], add_generation_prompt=True)
    ids = chat["input_ids"] if not isinstance(chat, list) else chat
    assert [token for token in ids if token >= 384] == [384, 386, 385]
    moved = patch.values - loaded.checkpoint.rows(np.arange(384)).mean(dim=0)
    assert bool((moved.abs().amax(dim=1) > 0).all())
    evaluation = ks_lottery.evaluate(loaded, corpus, product=patch, metrics=["accuracy"], template="chat")
    assert evaluation.sentences == 3


def test_spare_rows_are_used_before_the_matrix_grows(tmp_path, corpus, capsys):
    """A model with 384 rows whose tokenizer has fewer tokens."""
    from reserve import make_reserve

    make_reserve(tmp_path / "m", ["<x>"])
    used = len(AutoTokenizer.from_pretrained(tmp_path / "m"))
    assert used < 380
    few = [f"<n{i}>" for i in range(3)]
    checkpoint = open_checkpoint(str(tmp_path / "m"))
    settings = {"method": "new-tokens", "dtype": "float32", "device": "cpu", "epochs": 2, "learning_rate": 0.1}
    patch = tune(checkpoint, corpus, tokens=few, template="<n0>{source}<n1>", **settings)
    assert patch.added.ids == tuple(range(used, used + 3))
    assert not patch.added.grows
    for to in ("merged", "peft", "lora"):
        made = export(checkpoint, patch, tmp_path / to, to=to, check=True)
        assert made.check.passed
        assert made.check.told >= 3
        assert AutoTokenizer.from_pretrained(tmp_path / to).convert_tokens_to_ids(few) == list(patch.added.ids)
    assert json.loads((tmp_path / "merged" / "config.json").read_text())["vocab_size"] == 384
    many = [f"<n{i}>" for i in range(384 - used + 2)]
    patch = tune(checkpoint, corpus, tokens=many, template="<n0>{source}<n1>", **settings)
    assert patch.added.rows == 386
    assert patch.added.beyond == (384, 385)
    assert (
        f"{384 - used:,} in spare rows of the base, 2 in new rows: the matrix grows from 384 to 386 rows"
        in patch.added.sentence()
    )
    for to in ("merged", "peft"):
        assert export(checkpoint, patch, tmp_path / f"{to}-many", to=to, check=True).check.passed
