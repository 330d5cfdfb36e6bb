"""Exports of SmolLM2 where they run: llama.cpp, over its weights as safetensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ks_lottery import RowPatch, export, open_checkpoint
from ks_lottery.config.choices import DEFAULT_MODEL
from ks_lottery.corpus.prompt_form import PromptForm
from ks_lottery.corpus.prompts import TEMPLATES, instruction
from ks_lottery.models.load import load_tokenizer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bases():
    """The GGUF file, and the folder of its floats, which is a base of safetensors like any other."""
    quantised = open_checkpoint(DEFAULT_MODEL)
    return {"gguf": quantised, "safetensors": open_checkpoint(str(quantised.folder))}


@pytest.fixture(scope="module")
def patch(bases):
    order = instruction("en", "ca")
    form = PromptForm(load_tokenizer(bases["gguf"]), "alpaca")
    ids = np.array(sorted(set(form.prompts([order], ["House."])[0]))[:18])
    rows = bases["gguf"].rows(ids)
    noise = torch.randn(rows.shape, generator=torch.Generator().manual_seed(0))
    about = {"template": TEMPLATES["alpaca"], "instruction": order}
    return RowPatch(ids, rows + rows.std() * noise, bases["gguf"].describe(), about)


@pytest.mark.parametrize("to", ["gguf", "gguf-lora"])
def test_llama_cpp_gives_the_tokens_of_transformers(bases, patch, tmp_path, to):
    """From 32 bits, where llama.cpp rounds nothing but sums."""
    check = export(bases["safetensors"], patch, tmp_path / "out", to=to, check=True).check
    assert check.passed
    assert check.told == 5
    assert check.close == 0.05
    assert sum(check.equal) >= 0.9 * sum(check.lengths)
