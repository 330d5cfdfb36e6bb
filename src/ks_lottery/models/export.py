"""Writes a patch as an adapter that PEFT loads, or merged into a plain transformers folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ks_lottery.checkpoint.memory import MemoryCheckpoint
from ks_lottery.checkpoint.patch import RowPatch
from ks_lottery.config.job_commands import ExportSettings
from ks_lottery.config.values import checks_names
from ks_lottery.errors import UserError
from ks_lottery.models.adapter_form import adapter_form, filled, in_order, matrices, name_of, peft_config
from ks_lottery.models.load import open_checkpoint
from ks_lottery.models.model_card import card
from ks_lottery.models.quiet import quiet
from ks_lottery.store.embedded_models import terms_of, terms_text
from ks_lottery.store.manifest import digest_json, manifest
from ks_lottery.store.work_folder import WorkFolder

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import PreTrainedModel

    from ks_lottery.checkpoint.reader import Checkpoint
    from ks_lottery.models.load import LoadedModel

    Base = str | Path | Checkpoint | LoadedModel


def _skeleton(checkpoint: Checkpoint) -> PreTrainedModel:
    """Build the model without its weights, to learn the names of its modules."""
    from transformers import AutoConfig, AutoModelForCausalLM

    with quiet(), torch.device("meta"):
        if isinstance(checkpoint, MemoryCheckpoint):
            config: Any = type(checkpoint.model.config).from_dict(checkpoint.config)
        else:
            config = AutoConfig.from_pretrained(str(checkpoint.folder), local_files_only=True)
        return AutoModelForCausalLM.from_config(config)


def is_tied(checkpoint: Checkpoint) -> bool:
    """Say whether the output head of a checkpoint is its input embedding.

    As in transformers: the config ties them, and no head with other values is stored.
    """
    return _ties(_skeleton(checkpoint), checkpoint)


def _ties(model: PreTrainedModel, checkpoint: Checkpoint) -> bool:
    if not model.config.get_text_config().tie_word_embeddings:
        return False
    rows = range(0, checkpoint.vocabulary, _ROWS)
    blocks = (
        [checkpoint.block(t, i, min(i + _ROWS, checkpoint.vocabulary)) for i in rows] for t in matrices(checkpoint)
    )
    return all(torch.equal(a, b) for a, b in zip(*blocks, strict=True))


_ROWS = 1 << 14


def _check(checkpoint: Checkpoint, patch: RowPatch, *, tied: bool, force: bool) -> None:
    patch.check_base(checkpoint, force=force)
    if patch.side == "both" and tied != (patch.output_values is None):
        how = "one set of values for both sides" if tied else "a set of values for each side"
        raise UserError(
            f"the patch does not fit {checkpoint.name}, whose embeddings need {how}: give the base it was made on"
        )


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

    checkpoint, patch, folder = _opened(checkpoint, patch, folder)
    model = _skeleton(checkpoint)
    tied = _ties(model, checkpoint)
    _check(checkpoint, patch, tied=tied, force=force)
    if len(patch) == 0:
        raise UserError("the patch changes no row: there is nothing to export")
    if not tied and model.config.get_text_config().tie_word_embeddings:
        raise UserError(
            f"{checkpoint.name} stores two embeddings, but its config ties them, and so would PEFT: set tie_word_embeddings to "
            "false in its config.json, or export it merged"
        )
    form = adapter_form(checkpoint, patch, model, tied=tied)
    with quiet():
        config = peft_config(model, form, checkpoint.location)
        state = get_peft_model_state_dict(
            get_peft_model(model, config, low_cpu_mem_usage=True), save_embedding_layers=False
        )
    tensors = {name: filled(name, tensor, form) for name, tensor in state.items()}
    config.inference_mode = True
    work, about = _work(checkpoint, patch, folder, "peft")
    if work.is_done(about):
        return folder
    with work.publish(about) as temporary:
        save_file(tensors, temporary / "adapter_model.safetensors", metadata={"format": "pt"})
        with quiet():
            in_order(config).save_pretrained(str(temporary))
        (temporary / "README.md").write_text(card(checkpoint, patch, "peft"), encoding="utf-8")
        _write_terms(checkpoint, temporary)
    return folder


def _opened(checkpoint: Base, patch: RowPatch | str | Path, folder: str | Path) -> tuple[Checkpoint, RowPatch, Path]:
    opened = patch if isinstance(patch, RowPatch) else RowPatch.open(patch)
    return open_checkpoint(checkpoint), opened, Path(folder).expanduser()


def _work(checkpoint: Checkpoint, patch: RowPatch, folder: Path, to: str) -> tuple[WorkFolder, dict[str, Any]]:
    """Return the folder of an export, and the manifest by which the same export is known."""
    made_from = {"base": checkpoint.describe(), "patch": patch.content}
    settings = {"to": to, "patch": digest_json(dict(patch.settings))}
    return WorkFolder(folder), manifest("export", made_from=made_from, settings=settings)


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

    checkpoint, patch, folder = _opened(checkpoint, patch, folder)
    model = _skeleton(checkpoint)
    tied = _ties(model, checkpoint)
    _check(checkpoint, patch, tied=tied, force=force)
    work, about = _work(checkpoint, patch, folder, "merged")
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
        _write_terms(checkpoint, temporary)
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


def _write_terms(checkpoint: Checkpoint, folder: Path) -> None:
    """Write the notice and the terms that have to accompany what is made from a model with terms of use."""
    origin = terms_of(checkpoint.folder)
    if origin is None or origin.terms is None:
        return
    changed = "The files in this folder were made or modified with ks-lottery."
    (folder / "NOTICE").write_text(f"{origin.terms.notice}\n{changed}\n", encoding="utf-8")
    text = terms_text(origin)
    shutil.copyfile(text, folder / text.name)


FORMATS: dict[str, Callable[..., Path]] = {"peft": to_peft, "merged": to_merged}
"""Name of a format to the function that writes it."""
