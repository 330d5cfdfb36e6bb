"""Tiny random GGUF models, whose embedding is of any type: those that gguf cannot write get random bytes."""

from __future__ import annotations

import gguf
import numpy as np
from tokenizers import pre_tokenizers

V, E, F = 300, 256, 64


def embedding(kind, random):
    """Return the bytes of a matrix of V rows of one type."""
    values = 0.3 * random.standard_normal((V, E), dtype=np.float32)
    if kind.name not in {"Q6_K", "Q4_K"}:
        return gguf.quants.quantize(values, kind)
    block, size = gguf.GGML_QUANT_SIZES[kind]
    packed = random.integers(0, 256, (V, E // block, size), dtype=np.uint8)
    scale = np.float16(0.01).tobytes()
    at = {"Q6_K": (size - 2,), "Q4_K": (0, 2)}[kind.name]  # the scales of a block, which must be finite
    for place in at:
        packed[:, :, place : place + 2] = np.frombuffer(scale, np.uint8)
    return packed.reshape(V, -1)


def write(file, *, kind="F32", tied=True, architecture="llama", seed=0, padding=None):
    """Write a llama of one layer; every other matrix is F32."""
    random = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_context_length(512)
    writer.add_embedding_length(E)
    writer.add_block_count(1)
    writer.add_feed_forward_length(F)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(E // 4)
    writer.add_vocab_size(V)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([*alphabet, "ab", *(f"<t{i}>" for i in range(V - len(alphabet) - 1))])
    writer.add_token_types([1] * V)
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(V - 1)
    if padding is not None:
        writer.add_pad_token_id(padding)
    kind = gguf.GGMLQuantizationType[kind]
    for name in ("token_embd.weight", *(() if tied else ("output.weight",))):
        writer.add_tensor(name, embedding(kind, random), raw_dtype=kind)
    shapes = {f"blk.0.attn_{n}": (E, E) for n in ("q", "output")} | {f"blk.0.attn_{n}": (E // 2, E) for n in ("k", "v")}
    shapes |= {"blk.0.ffn_gate": (F, E), "blk.0.ffn_up": (F, E), "blk.0.ffn_down": (E, F)}
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", 0.1 * random.standard_normal(shape, dtype=np.float32))
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(E, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file
