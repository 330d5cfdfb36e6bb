"""Writes a patch as an adapter that PEFT loads, or merged into a plain transformers folder."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import torch

from ks_lottery.checkpoint.memory import MemoryCheckpoint
from ks_lottery.config.job_commands import ExportSettings
from ks_lottery.config.values import checks_names
from ks_lottery.errors import UserError
from ks_lottery.models.adapter_form import adapter_form, filled, in_order, matrices, name_of, peft_config
from ks_lottery.models.export_parts import (
    check_fits,
    check_peft_ties,
    is_tied,
    opened,
    skeleton,
    ties,
    work_of,
    write_terms,
)
from ks_lottery.models.model_card import card
from ks_lottery.models.quiet import quiet

if TYPE_CHECKING:
    from pathlib import Path

    from ks_lottery.checkpoint.patch import RowPatch
    from ks_lottery.checkpoint.reader import Checkpoint
    from ks_lottery.models.export_parts import Base

__all__ = ["is_tied", "to_merged", "to_peft"]


@checks_names
def to_peft(
    checkpoint: Base, patch: RowPatch | str | Path, folder: str | Path, *, force: bool = ExportSettings.force
) -> Path:
    """Write an adapter for `peft.PeftModel.from_pretrained`.

    The adapter has PEFT's trainable tokens, on the module of each side that the patch changes. On a tied model a patch of one
    side would change the other side too. There a LoRA of rank 1, all zero, has trainable tokens for both sides with different
    ids, which PEFT keeps apart: the patch's tokens, and on the other side one token with its base value. Where trainable
    tokens cannot express the patch (a head with a bias; every row of one side of a tied model), the module is saved whole,
    V x d values.

    Parameters
    ----------
    checkpoint
        The base: a folder, GGUF file, hub id, an opened checkpoint, or a loaded model.
    patch
        The patch, or its folder.
    folder
        Where to write; new, empty, or the same export, which is then left as it is.
    force
        Accept a patch of another base; off by default.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    UserError
        When the patch is empty or belongs to another base, or `folder` holds something else.
    """
    from peft import get_peft_model, get_peft_model_state_dict
    from safetensors.torch import save_file

    checkpoint, patch, folder = opened(checkpoint, patch, folder)
    model = skeleton(checkpoint)
    tied = ties(model, checkpoint)
    check_fits(checkpoint, patch, tied=tied, force=force)
    if len(patch) == 0:
        raise UserError("the patch changes no row: there is nothing to export")
    check_peft_ties(model, checkpoint, tied=tied)
    form = adapter_form(checkpoint, patch, model, tied=tied)
    with quiet():
        config = peft_config(model, form, checkpoint.location)
        state = get_peft_model_state_dict(
            get_peft_model(model, config, low_cpu_mem_usage=True), save_embedding_layers=False
        )
    tensors = {name: filled(name, tensor, form) for name, tensor in state.items()}
    config.inference_mode = True
    work, about = work_of(checkpoint, patch, folder, "peft")
    if work.is_done(about):
        return folder
    with work.publish(about) as temporary:
        save_file(tensors, temporary / "adapter_model.safetensors", metadata={"format": "pt"})
        with quiet():
            in_order(config).save_pretrained(str(temporary))
        (temporary / "README.md").write_text(card(checkpoint, patch, "peft"), encoding="utf-8")
        write_terms(checkpoint, temporary)
    return folder


@checks_names
def to_merged(
    checkpoint: Base, patch: RowPatch | str | Path, folder: str | Path, *, force: bool = ExportSettings.force
) -> Path:
    """Write a plain transformers folder with the new rows inside.

    A tied model is written untied, with the unchanged side as a tensor of its own, unless the patch changes both sides.

    Parameters
    ----------
    checkpoint
        The base: a folder, GGUF file, hub id, an opened checkpoint, or a loaded model.
    patch
        The patch, or its folder.
    folder
        Where to write; new, empty, or the same export, which is then left as it is.
    force
        Accept a patch of another base; off by default.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    UserError
        When the patch belongs to another base, or `folder` holds something else.
    """
    from huggingface_hub import save_torch_state_dict

    checkpoint, patch, folder = opened(checkpoint, patch, folder)
    model = skeleton(checkpoint)
    tied = ties(model, checkpoint)
    check_fits(checkpoint, patch, tied=tied, force=force)
    work, about = work_of(checkpoint, patch, folder, "merged")
    if work.is_done(about):
        return folder
    tensors = _tensors(checkpoint)
    embedding, head = matrices(checkpoint)
    config = dict(checkpoint.config)
    apart = tied and patch.side != "both"
    if head == embedding and apart:
        head = f"{name_of(model, model.get_output_embeddings())}.weight"
        tensors[head] = tensors[embedding]
    new = {embedding: patch.values_of("input"), head: patch.values_of("output")}
    for name, rows in new.items():
        tensors[name] = tensors[name].clone()  # a tensor of its own, also where it keeps its values
        if rows is not None:
            tensors[name][torch.from_numpy(patch.ids)] = rows.to(tensors[name].dtype)
    if not tied or apart:
        config["tie_word_embeddings"] = False
        if isinstance(config.get("text_config"), dict):
            config["text_config"] = {**config["text_config"], "tie_word_embeddings": False}
    with work.publish(about) as temporary:
        save_torch_state_dict(tensors, temporary, max_shard_size="5GB")
        _write_extras(checkpoint, temporary)
        (temporary / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        (temporary / "README.md").write_text(card(checkpoint, patch, "merged"), encoding="utf-8")
        write_terms(checkpoint, temporary)
    return folder


def _tensors(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """Return every tensor of a checkpoint by name."""
    from safetensors import safe_open

    if isinstance(checkpoint, MemoryCheckpoint):
        return {name: value.detach().cpu().contiguous() for name, value in checkpoint.values.items()}
    tensors: dict[str, torch.Tensor] = {}
    for file in sorted({entry.file for entry in checkpoint.tensors.values()}):
        with safe_open(file, "pt") as opened:
            tensors.update({name: opened.get_tensor(name) for name in opened.keys()})  # noqa: SIM118 (not a dict)
    return tensors


def _write_extras(checkpoint: Checkpoint, folder: Path) -> None:
    """Write what belongs to a model beside its weights: configs, and the tokenizer."""
    if isinstance(checkpoint, MemoryCheckpoint):
        if checkpoint.model.can_generate():
            checkpoint.model.generation_config.save_pretrained(str(folder))
        if checkpoint.tokenizer is not None:
            checkpoint.tokenizer.save_pretrained(str(folder))
        return
    for extra in checkpoint.folder.iterdir():
        if extra.suffix in {".json", ".model", ".txt", ".jinja"} and not extra.name.endswith(".index.json"):
            shutil.copyfile(extra, folder / extra.name)
