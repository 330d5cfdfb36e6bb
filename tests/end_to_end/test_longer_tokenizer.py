"""A tokenizer with more tokens than the embedding has rows: only a text with such a token is refused."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import ks_lottery
from ks_lottery import UserError, open_checkpoint, scan
from ks_lottery.corpus.batches import check_rows, encode
from ks_lottery.corpus.prompt_form import PromptForm
from ks_lottery.evaluation.inspect import inspect
from ks_lottery.evaluation.translate import translate
from ks_lottery.models.load import load_model, load_tokenizer
from ks_lottery.models.vocabulary import MOST_IDS, read_vocabulary, token_strings, vocabulary_of_source

TOKEN = "<image_soft_token>"


@pytest.fixture
def longer(tied_model, tmp_path):
    """The tiny model, whose tokenizer has one token more than its embedding has rows."""
    folder = shutil.copytree(tied_model, tmp_path / "longer")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([TOKEN], special_tokens=True)
    tokenizer.save_pretrained(folder)
    assert len(tokenizer) == 385
    return folder


@pytest.fixture
def texts(tmp_path):
    """A text whose tokens all have a row, and one with a token that has none."""
    lines = [f"The house number {i} is old\tLa casa número {i} és vella" for i in range(12)]
    plain, image = tmp_path / "plain.tsv", tmp_path / "image.tsv"
    plain.write_text("\n".join(lines) + "\n", encoding="utf-8")
    image.write_text("\n".join([*lines[:4], f"The {TOKEN} is a fine thing\tLa {TOKEN} és bona cosa", *lines[4:]]) + "\n",
                     encoding="utf-8")  # fmt: skip
    return plain, image


def test_the_model_is_used_like_the_plain_one(longer, tied_model, texts):
    assert scan(tied_model, longer).moved.sum() == 0
    plain = str(texts[0])
    assert (
        inspect(plain, longer, clean=False).content["lengths"]
        == inspect(plain, tied_model, clean=False).content["lengths"]
    )
    settings = {"method": "embed", "epochs": 1, "dtype": "float32", "device": "cpu", "learning_rate": 1e-2}
    tuned, wanted = (ks_lottery.tune(folder, plain, **settings) for folder in (longer, tied_model))
    assert np.array_equal(tuned.ids, wanted.ids)
    assert torch.equal(tuned.values, wanted.values)


def test_only_a_text_with_the_missing_row_is_refused(longer, texts):
    image, wanted = str(texts[1]), "has token 384, but the model's embedding has only 384 rows"
    loaded = load_model(longer, dtype="float32", device="cpu")
    corpus = ks_lottery.read_corpus(image, source_language="en", target_language="ca")
    examples, _ = encode(loaded.tokenizer, corpus)
    form = PromptForm(loaded.tokenizer, "plain")
    prompts = form.prompts(["Translate."] * 2, ["The house", f"The {TOKEN} is old"])
    for call in (
        lambda: inspect(image, longer, clean=False),
        lambda: ks_lottery.tune(loaded, corpus, method="embed", epochs=1),
        lambda: ks_lottery.tune(loaded, examples, method="embed", epochs=1),
        lambda: ks_lottery.row_gradients(loaded, corpus),
        lambda: ks_lottery.evaluate(loaded, corpus),
        lambda: translate(loaded.lm, form, prompts, max_new_tokens=2),
    ):
        with pytest.raises(UserError, match=wanted) as refused:
            call()
        assert "\n" not in str(refused.value)


def test_the_sentence_is_the_first_with_a_missing_row():
    check_rows([[1, 2], [], [383]], 384, "text")
    with pytest.raises(UserError, match="^text: sentence 2 has token 9, but the model's embedding has only 9 rows"):
        check_rows([[8], [1, 9], [10]], 9, "text")


def test_an_end_token_without_a_row_is_refused(longer):
    config = json.loads((longer / "tokenizer_config.json").read_text())
    (longer / "tokenizer_config.json").write_text(json.dumps({**config, "eos_token": TOKEN}))
    with pytest.raises(UserError, match="end-of-sentence token of .* is 384, but its embedding has only 384 rows"):
        load_tokenizer(open_checkpoint(longer))


@pytest.mark.parametrize("last", [384, 10**6, 2**32 - 1])
def test_an_id_of_any_size_takes_no_memory(tied_model, tmp_path, last):
    folder = shutil.copytree(tied_model, tmp_path / "large")
    core = json.loads((folder / "tokenizer.json").read_text())
    core["model"]["vocab"]["far"] = last
    (folder / "tokenizer.json").write_text(json.dumps(core))
    known = read_vocabulary(tied_model)
    assert vocabulary_of_source(open_checkpoint(folder)) == known
    assert read_vocabulary(folder, 384) == known
    vocabulary = read_vocabulary(folder)
    assert len(vocabulary.names) == (last + 1 if last < MOST_IDS else 384)
    assert vocabulary.shown[:384] == known.shown
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert token_strings(tokenizer, 384) == list(known.shown)
    if last == 384:
        assert vocabulary.names[384] == "far"
        assert token_strings(tokenizer, 386)[384:] == ["'far'", "''"]


def test_the_model_runs_as_transformers_runs_it(longer):
    tokens = torch.tensor([[1, 5, 77, 300]])
    wanted = AutoModelForCausalLM.from_pretrained(longer, dtype=torch.float32)(tokens).logits
    assert torch.equal(load_model(longer, dtype="float32", device="cpu").lm(tokens).logits, wanted)
