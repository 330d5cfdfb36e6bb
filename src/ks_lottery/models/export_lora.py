"""Writes a patch as a LoRA on the embedding, which PEFT and vLLM load."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ks_lottery.config.choices import MOST_RANK
from ks_lottery.config.job_commands import ExportSettings
from ks_lottery.config.values import checks_names
from ks_lottery.errors import UserError
from ks_lottery.models.adapter_form import in_order, name_of
from ks_lottery.models.export_parts import (
    check_fits,
    check_peft_ties,
    notes_on_tokens,
    opened,
    skeleton,
    ties,
    work_of,
    write_terms,
    write_tokenizer,
)
from ks_lottery.models.low_rank import check_rank, row_lora
from ks_lottery.models.model_card import card
from ks_lottery.models.quiet import quiet

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from transformers import PreTrainedModel

    from ks_lottery.checkpoint.patch import RowPatch
    from ks_lottery.checkpoint.reader import Checkpoint
    from ks_lottery.models.export_parts import Base
    from ks_lottery.models.low_rank import RowLora

VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, MOST_RANK)
"""Values of ``--max-lora-rank`` that vLLM takes; its default is 16."""

VLLM_FAMILIES = ("llama", "mixtral", "granite", "qwen3")
"""Types of models on whose embedding vLLM 0.32 puts a LoRA; not Mistral, Qwen2, Gemma, GPT-2, Phi, BLOOM and OPT."""


@checks_names
def to_lora(
    checkpoint: Base,
    patch: RowPatch | str | Path,
    folder: str | Path,
    *,
    rank: int | None = ExportSettings.rank,
    force: bool = ExportSettings.force,
) -> Path:
    """Write a LoRA for PEFT and vLLM.

    A patch of K rows is a LoRA of rank K on the embedding: A, of shape (K, V), is one-hot and has bfloat16, which is exact
    there; B, of shape (d, K), is new minus old in float32; the scale is 1. On the output side A is new minus old and B is
    one-hot. The base's rows plus B are the patch's values up to float32's rounding. A is stored whole, 2 K V bytes.

    On a model whose head is its embedding, PEFT and vLLM add the LoRA on the side that it belongs to; merging it changes both.

    Parameters
    ----------
    checkpoint
        The base: a folder, GGUF file, hub id, an opened checkpoint, or a loaded model.
    patch
        The patch, or its folder.
    folder
        Where to write; new, empty, or the same export, which is then left as it is.
    rank
        Rank of an approximation, at most 512; None (the default) for the exact LoRA. Its relative error is in the README.
    force
        Accept a patch of another base; off by default.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    UserError
        When the patch is empty, belongs to another base, or has more than 512 rows and no `rank` is given; or `folder` holds
        something else.
    """
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
    from safetensors.torch import save_file

    checkpoint, patch, folder = opened(checkpoint, patch, folder)
    if patch.added is not None and patch.added.grows:
        raise UserError(
            f"the patch adds rows to the {patch.added.base_rows:,} of the base, and a LoRA cannot: export it as "
            "merged, gguf or peft"
        )
    model = skeleton(checkpoint)
    tied = ties(model, checkpoint)
    check_fits(checkpoint, patch, tied=tied, force=force)
    check_peft_ties(model, checkpoint, tied=tied)
    used = check_rank(patch, rank)
    sides = {side: row_lora(checkpoint, patch, side, rank) for side in ("input", "output")}
    names = {"input": name_of(model, model.get_input_embeddings())}
    if sides["output"] is not None:
        names["output"] = name_of(model, model.get_output_embeddings())
    loras = {names[side]: (side, lora) for side, lora in sides.items() if lora is not None}
    work, about = work_of(checkpoint, patch, folder, "lora", **({} if rank is None else {"rank": rank}))
    if work.is_done(about):
        return folder
    config: Any = LoraConfig(
        r=used, lora_alpha=used, target_modules=list(loras), task_type="CAUSAL_LM",
        base_model_name_or_path=checkpoint.location,
    )  # fmt: skip
    with quiet():
        state = get_peft_model_state_dict(
            get_peft_model(model, config, low_cpu_mem_usage=True), save_embedding_layers=False
        )
    tensors = {name: _filled(name, tensor, loras) for name, tensor in state.items()}
    config.inference_mode = True
    error = max(lora.error for _, lora in loras.values())
    told = [*_sizes(loras, error), *notes_on_tokens(checkpoint, patch)]
    with work.publish({**about, "notes": told}) as temporary:
        save_file(tensors, temporary / "adapter_model.safetensors", metadata={"format": "pt"})
        with quiet():
            in_order(config).save_pretrained(str(temporary))
        text = card(
            checkpoint, patch, "lora", notes=[*told, *_notes(model, tied=tied)],
            commands=_vllm(model, checkpoint, used), exact=not error,
        )  # fmt: skip
        (temporary / "README.md").write_text(text, encoding="utf-8")
        write_tokenizer(checkpoint, patch, temporary)
        write_terms(checkpoint, temporary)
    return folder


def _filled(name: str, tensor: torch.Tensor, loras: dict[str, tuple[str, RowLora]]) -> torch.Tensor:
    """Return the tensor for one name of PEFT's state."""
    side, lora = next(held for module, held in loras.items() if f".{module}." in name)
    is_a = ".lora_embedding_A" in name or ".lora_A." in name
    value = (lora.rows if is_a else lora.moves.T) if side == "input" else (lora.moves if is_a else lora.rows.T)
    if value.shape != tensor.shape:
        raise RuntimeError(f"PEFT expects {name} as {tuple(tensor.shape)}, and it is {tuple(value.shape)}")
    return value.contiguous()


def _sizes(loras: dict[str, tuple[str, RowLora]], error: float) -> list[str]:
    """Say how large the LoRA is, and what its rank loses."""
    size = sum(lora.size for _, lora in loras.values())
    rank, shape = next((lora.rank, tuple(lora.rows.shape)) for _, lora in loras.values())
    about = f"A LoRA of rank {rank}: {size:,} bytes, most of them its matrix of {shape[0]:,} x {shape[1]:,} that picks rows."
    lost = f"Its rank is too low for the rows: it loses {error:.2%} of their change (Frobenius norm)."
    return [about, lost] if error else [about]


def _notes(model: PreTrainedModel, *, tied: bool) -> list[str]:
    """Say what a user of the LoRA has to know of the base."""
    notes = [f"vLLM does not put a LoRA on the embedding of a {model.config.model_type} model: export it as merged."]
    if model.config.model_type in VLLM_FAMILIES:
        notes = []
    if tied:
        notes.append(
            "The base is tied: its head is its embedding. The LoRA changes its own side alone, unless it is merged."
        )
    return notes


def _vllm(model: PreTrainedModel, checkpoint: Checkpoint, rank: int) -> str:
    if model.config.model_type not in VLLM_FAMILIES:
        return ""
    most = next(known for known in VLLM_RANKS if known >= rank)
    return f"vllm serve {checkpoint.name} --enable-lora --max-lora-rank {most} --lora-modules rows=.\n"
