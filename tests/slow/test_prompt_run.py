"""A token prompt of SmolLM2 in llama.cpp: a plain chat message gets its tokens, and text without them is answered as before."""

from __future__ import annotations

import pytest
import torch
from llama_chat import ask_server
from transformers import GenerationConfig

from ks_lottery import Corpus, export, load_model, open_checkpoint, tune
from ks_lottery.config.choices import DEFAULT_MODEL
from ks_lottery.corpus.corpus import Pair
from ks_lottery.corpus.prompt_form import PromptForm
from ks_lottery.models.new_tokens import with_new_tokens
from ks_lottery.models.sides import installed_patch
from ks_lottery.store.embedded_models import model_gguf

pytestmark = pytest.mark.slow

PAIRS = [
    ("Your session has expired.", "La vostra sessió ha caducat."), ("The house is old.", "La casa és vella."),
    ("Please enter a valid password.", "Introduïu una contrasenya vàlida."), ("Too large.", "Massa gran."),
]  # fmt: skip
MESSAGES = ["The garden is closed today.", "Choose a name for the site."]
TEXTS = ["The capital of France is", "<|im_start|>user\nName three colours.<|im_end|>\n<|im_start|>assistant\n"]
COUNT = 24


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The patch, on the floats of the file, in 32 bits, which llama.cpp then computes without rounding activations."""
    checkpoint = open_checkpoint(str(open_checkpoint(DEFAULT_MODEL).folder))
    loaded = load_model(checkpoint, dtype="float32", device="cpu")
    corpus = Corpus(tuple(Pair(*pair) for pair in PAIRS), "en", "ca", "text")
    patch = tune(loaded, corpus, method="token-prompt", tokens=8, template="plain", epochs=8, batch_size=4)
    return loaded, patch, export(checkpoint, patch, tmp_path_factory.mktemp("made") / "gguf", to="gguf")


def test_a_chat_message_is_answered_as_by_transformers_with_the_prompt_written_out(made):
    loaded, patch, exported = made
    assert len(patch.added.texts) == 8
    before, after = patch.prompt.split("{source}")
    told = ask_server(exported.folder / "model.gguf", MESSAGES, [], COUNT)
    longer = with_new_tokens(loaded, patch)
    prompts = PromptForm(longer.tokenizer, patch.prompt).prompts([""] * 2, MESSAGES)
    stop = longer.tokenizer.eos_token_id
    config = GenerationConfig(max_new_tokens=COUNT, do_sample=False, eos_token_id=stop, pad_token_id=stop)
    for chat, prompt, message in zip(told["chats"], prompts, MESSAGES, strict=True):
        assert chat["prompt"] == f"{before}{message}{after}"
        assert tuple(chat["tokens"]) == prompt
        ids = torch.tensor([prompt])
        with installed_patch(longer.lm, patch), torch.inference_mode():
            wanted = longer.lm.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=config)
        answer = wanted[0, len(prompt) :].tolist()
        assert chat["answer"] == longer.tokenizer.decode(answer, skip_special_tokens=True)
        assert any(letter.isalpha() for letter in chat["answer"])


def test_text_without_the_tokens_gets_the_tokens_of_the_base(made, tmp_path):
    """Of the file of 4 bits that the base came from: its bytes are copied, so that the answers are the same ones."""
    _, patch, _ = made
    base = open_checkpoint(DEFAULT_MODEL)
    exported = export(base, patch, tmp_path / "gguf", to="gguf", force=True)
    given = ask_server(exported.folder / "model.gguf", [], TEXTS, COUNT)
    assert given["texts"] == ask_server(model_gguf(DEFAULT_MODEL), [], TEXTS, COUNT)["texts"]
    assert all(len(tokens) > 4 for tokens in given["texts"])
