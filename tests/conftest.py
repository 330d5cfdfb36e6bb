"""Fixtures: a tiny model with a tokenizer, made here, and a tiny corpus."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ks_lottery import Scan

settings.register_profile("here", deadline=None)
settings.load_profile("here")

SENTENCES = [
    ("The house is old and cold", "La casa és vella i freda"),
    ("The dog eats in the garden", "El gos menja al jardí"),
    ("Your session has expired today", "La teva sessió ha caducat avui"),
    ("Please enter a valid password", "Introdueix una contrasenya vàlida"),
    ("This page does not exist", "Aquesta pàgina no existeix ara"),
    ("The file is too large", "El fitxer és massa gran"),
    ("We could not save the image", "No hem pogut desar la imatge"),
    ("Choose a name for the site", "Tria un nom per al lloc"),
]


def sentence_pairs(count: int) -> list[tuple[str, str]]:
    """Return `count` distinct pairs."""
    return [(f"{s} number {i}", f"{t} número {i}") for i in range(count) for s, t in [SENTENCES[i % len(SENTENCES)]]]


def make_model(folder: Path, *, tied: bool = True, spread: float = 0.3) -> Path:
    """Write a random two-layer model with a byte-level tokenizer trained on the sentences."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from ks_lottery.models.quiet import quiet

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=384,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator([text for pair in SENTENCES for text in pair], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=384,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=tied,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        initializer_range=spread,
    )
    with quiet():
        LlamaForCausalLM(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def scan_of_counts(counts: Sequence[int], width: int) -> Scan:
    """Return a scan of one embedding with these counts, of rows that moved in proportion."""
    import numpy as np

    from ks_lottery.tickets.scan import Part, Scan

    k = np.array(counts, dtype=np.int64)
    columns = dict.fromkeys(("distance", "largest", "spread", "cos", "absolute", "absolute_signed", "kl"), k / width)
    part = Part(tensor="embed_tokens.weight", start=0, count=len(k), width=width, compared_as="float32")
    return Scan(
        parts=(part,), counts=k, moved=(k > 0).astype(np.int64), zeros=np.zeros_like(k), **columns, relative=1 + k / width,
        made_from={"base": {"name": "x"}}, settings={"vocabulary": ["embed_tokens.weight"]},
    )  # fmt: skip


@pytest.fixture(scope="session")
def make_scan() -> Callable[[Sequence[int], int], Scan]:
    return scan_of_counts


@pytest.fixture(autouse=True)
def empty_working_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies where the tests are started must not change them, nor be changed by them."""
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))


@pytest.fixture(scope="session")
def tied_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("tied"), tied=True)


@pytest.fixture(scope="session")
def untied_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("untied"), tied=False)


@pytest.fixture(scope="session")
def narrow_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows so narrow that the test sees what the default learning rate moves."""
    return make_model(tmp_path_factory.mktemp("narrow"), spread=0.02)


@pytest.fixture(scope="session")
def narrow_untied_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("narrow_untied"), tied=False, spread=0.02)


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("text") / "pairs.tsv"
    file.write_text("".join(f"{s}\t{t}\n" for s, t in sentence_pairs(120)), encoding="utf-8")
    return file
