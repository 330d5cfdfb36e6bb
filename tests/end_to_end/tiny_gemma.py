"""A tiny random Gemma 3 as a GGUF file, with the tokenizer of its kind: bytes, a real BOS, and tokens in reserve."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gguf
import torch
from transformers import AutoModelForCausalLM, Gemma3TextConfig

from ks_lottery.models.quiet import quiet

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
LAYERS, WIDTH, CONTROL, BYTE, NORMAL, UNUSED = 6, 32, 3, 6, 1, 5


def write_gemma(file: Path, sentences: Iterable[str], reserve: int = 120) -> Any:
    """Write the file, and return the model of transformers that it holds."""
    names = [*SPECIAL, *(f"<unused{number}>" for number in range(reserve))]
    pieces = [(name, -1000.0, CONTROL) for name in names]
    pieces += [(f"<0x{byte:02X}>", -1000.0, BYTE) for byte in range(256)]
    characters = sorted(set("".join(sentences).replace(" ", "▁")))
    pieces += [(character, -float(rank), NORMAL) for rank, character in enumerate(characters)]
    pieces += [(f"<spare{number}>", -1000.0, UNUSED) for number in range(-len(pieces) % 8)]
    model = _random(len(pieces))
    writer = gguf.GGUFWriter(file, "gemma3")
    writer.add_context_length(1024)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(48)
    writer.add_head_count(4)
    writer.add_head_count_kv(1)
    writer.add_key_length(8)
    writer.add_value_length(8)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e6)
    writer.add_sliding_window(512)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([piece for piece, _, _ in pieces])
    writer.add_token_scores([score for _, score, _ in pieces])
    writer.add_token_types([kind for _, _, kind in pieces])
    writer.add_pad_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_bos_token_id(2)
    writer.add_unk_token_id(3)
    writer.add_add_bos_token(value=True)
    writer.add_add_eos_token(value=False)
    writer.add_add_space_prefix(value=False)
    mapped = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GEMMA3, LAYERS)
    for name, tensor in model.state_dict().items():
        if name != "lm_head.weight":  # tied
            stored = tensor + 1 if "norm" in name else tensor  # as llama.cpp stores the norms of this family
            writer.add_tensor(f"{mapped.get_name(name.removesuffix('.weight'))}.weight", stored.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model.eval()


def _random(rows: int) -> Any:
    config = Gemma3TextConfig(
        vocab_size=rows, hidden_size=WIDTH, intermediate_size=48, num_hidden_layers=LAYERS, num_attention_heads=4,
        num_key_value_heads=1, head_dim=8, query_pre_attn_scalar=256, sliding_window=512, max_position_embeddings=1024,
        pad_token_id=0, eos_token_id=1, bos_token_id=2, rms_norm_eps=1e-6, initializer_range=0.3,
    )  # fmt: skip
    torch.manual_seed(0)
    with quiet():
        model = AutoModelForCausalLM.from_config(config)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.data += 0.2 * torch.randn(parameter.shape)
    return model
