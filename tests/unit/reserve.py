"""A tiny model whose vocabulary has tokens in reserve, and rows without a token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ks_lottery.models.quiet import quiet

if TYPE_CHECKING:
    from pathlib import Path

ROWS, UNUSED = 384, 12
NAMES = ["<|im_start|>", *(f"<unused{i}>" for i in range(UNUSED)), "<repo_name>"]
SENTENCES = [
    ("The house is old and cold", "La casa és vella i freda"),
    ("The dog eats in the garden", "El gos menja al jardí"),
    ("Your session has expired today", "La teva sessió ha caducat avui"),
    ("Please enter a valid password", "Introdueix una contrasenya vàlida"),
]


def make_reserve(folder: Path, names, *, begins: bool = True) -> Path:
    """Write a model with tokens in reserve, and rows behind the last id of its tokenizer."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<pad>", "<s>", "</s>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    core.train_from_iterator([text for pair in SENTENCES for text in pair], trainer)
    if begins:
        core.post_processor = TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    tokenizer.add_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=ROWS, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=True, pad_token_id=0, bos_token_id=1,
        eos_token_id=2, initializer_range=0.3,
    )  # fmt: skip
    with quiet():
        LlamaForCausalLM(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def vocabulary(folder):
    return AutoTokenizer.from_pretrained(folder).get_vocab()
