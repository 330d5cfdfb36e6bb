"""Writes a row patch or a PEFT adapter merged into its base, as a plain transformers folder in a type of choice."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ks_lottery.checkpoint.adapter import AdaptedCheckpoint
from ks_lottery.checkpoint.memory import MemoryCheckpoint
from ks_lottery.checkpoint.patch import RowPatch
from ks_lottery.config.job_commands import ExportSettings
from ks_lottery.config.values import checks_names
from ks_lottery.errors import UserError
from ks_lottery.models.adapter_form import matrices, name_of
from ks_lottery.models.equipped import AdapterInMemory, saved_product
from ks_lottery.models.export_parts import (
    check_fits,
    notes_on_tokens,
    skeleton,
    ties,
    work_of,
    write_terms,
    write_tokenizer,
)
from ks_lottery.models.load import open_checkpoint
from ks_lottery.models.model_card import CardContent, card
from ks_lottery.models.products import RECORD_FILE, SavedProduct
from ks_lottery.models.rows import mean_of_rows
from ks_lottery.report.forms import size
from ks_lottery.store.embedded_models import ORIGIN_FILE
from ks_lottery.store.work_folder import MANIFEST_FILE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from transformers import PreTrainedModel

    from ks_lottery.checkpoint.reader import Checkpoint
    from ks_lottery.models.load import LoadedModel

    Base = str | Path | Checkpoint | LoadedModel
    Tuned = RowPatch | AdapterInMemory | str | Path

NOT_OF_THE_MODEL = (MANIFEST_FILE, RECORD_FILE, "training.json", "rows.json")
"""Files of a tuned model's folder that say how it was made."""

PROMPT_LEARNING = ("PREFIX_TUNING", "PROMPT_TUNING")
"""Kinds of adapters that are no change of weights."""

VLLM_MODELS = ("llama", "mistral", "mixtral", "granite", "qwen2", "qwen3")
"""Types of models that vLLM 0.32 loads by its source, also with the embeddings of a tied base apart; one of llama was run."""

OF_GGUF = "bfloat16"
"""Type in which the floats of a GGUF file are written unless another one is asked for: that of the models such files are made
from. Its values have fewer bits than that, and float32 doubles the file."""


@checks_names
def to_merged(
    checkpoint: Base,
    patch: Tuned,
    folder: str | Path,
    *,
    dtype: str = ExportSettings.dtype,
    force: bool = ExportSettings.force,
    tell: Callable[[str], None] | None = None,
) -> Path:
    """Write a plain transformers folder with the new rows, or the adapter, inside.

    A tied model is written untied, with the unchanged side as a tensor of its own, unless both sides change alike. An adapter
    is merged in float32, as PEFT's ``merge_and_unload`` does it, and then rounded to the type that is written.

    Parameters
    ----------
    checkpoint
        The base: a folder, GGUF file, hub id, an opened checkpoint, or a loaded model. Of QLoRA it is the base in floats: the
        4 bits of the training are no part of the adapter.
    patch
        A row patch, a PEFT adapter (LoRA, trainable tokens) that `tune` returned, or the folder of one of them.
    folder
        Where to write; new, empty, or the same export, which is then left as it is.
    dtype
        ``auto`` (the default): the type of each tensor of the base, and bfloat16 for a GGUF file; or ``float32``, ``bfloat16``
        or ``float16``.
    force
        Accept a patch or adapter of another base; off by default.
    tell
        Called with one sentence, the type and the size, before anything is written.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    UserError
        When the patch changes nothing or belongs to another base, the adapter cannot be merged, or `folder` holds something
        else.
    """
    base, folder = open_checkpoint(checkpoint), Path(folder).expanduser()
    with saved_product(patch) as saved:
        product = SavedProduct.open(saved) if isinstance(saved, str | Path) else None
        rows = saved if isinstance(saved, RowPatch) else None if product is None else product.patch
        model = skeleton(base)
        if rows is not None:
            made: RowPatch | SavedProduct = rows
            content, about_it = _with_rows(base, rows, model, force=force), CardContent.of_patch(rows)
        else:
            assert product is not None  # noqa: S101 (nothing else is left)
            content, made = _with_adapter(base, product, model, force=force), product
            about_it = CardContent.of_adapter(product.base, product.settings)
        content = replace(content, tensors=_in_type(base, content.tensors, dtype))
        types = sorted({str(value.dtype).removeprefix("torch.") for value in content.tensors.values()})
        work, about = work_of(base, made, folder, "merged", dtype=types)
    if work.is_done(about):
        return folder
    if tell is not None:
        tell(_size_sentence(base, content.tensors, types, dtype))
    notes = [] if rows is None else notes_on_tokens(base, rows)
    with work.publish({**about, **({"notes": notes} if notes else {})}) as temporary:
        _write(base, content, about_it, temporary)
    return folder


@dataclass(frozen=True, kw_only=True)
class _Content:
    """Tensors of a merged model by name, and whether its embeddings are apart although the base's config ties them.

    `patch` is that of a patch, with its tokens and its prompt; None for an adapter.
    """

    tensors: Mapping[str, torch.Tensor]
    is_untied: bool
    patch: RowPatch | None = None


def _write(base: Checkpoint, content: _Content, made: CardContent, folder: Path) -> None:
    from huggingface_hub import save_torch_state_dict

    tensors = dict(content.tensors)
    save_torch_state_dict(tensors, folder, max_shard_size="5GB")
    _write_extras(base, folder)
    config = dict(base.config)
    types = {value.dtype for value in tensors.values() if value.is_floating_point()}
    if len(types) == 1:
        config.pop("torch_dtype", None)
        config["dtype"] = str(types.pop()).removeprefix("torch.")
    if content.is_untied:
        config["tie_word_embeddings"] = False
        if isinstance(config.get("text_config"), dict):
            config["text_config"] = {**config["text_config"], "tie_word_embeddings": False}
    notes = [] if content.patch is None else notes_on_tokens(base, content.patch)
    if content.patch is not None:
        write_tokenizer(base, content.patch, folder)
        if content.patch.added is not None:
            of_text = isinstance(config.get("text_config"), dict)
            longer = {"vocab_size": content.patch.added.rows}
            config |= {"text_config": {**config["text_config"], **longer}} if of_text else longer
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    rounded = ", ".join(sorted(_rounded(base, tensors)))
    commands = "vllm serve .\n" if config.get("model_type") in VLLM_MODELS else ""
    exact = not rounded and tensors[base.embedding].dtype == torch.float32  # which the rows of a patch have
    text = card(base, made, "merged", notes=notes, dtype=rounded, commands=commands, exact=exact)
    (folder / "README.md").write_text(text, encoding="utf-8")
    write_terms(base, folder)


def _with_rows(base: Checkpoint, patch: RowPatch, model: PreTrainedModel, *, force: bool) -> _Content:
    """Return the base's tensors with new rows."""
    tied = ties(model, base)
    check_fits(base, patch, tied=tied, force=force)
    tensors = _tensors(base)
    embedding, head = matrices(base)
    apart = tied and patch.side != "both"
    if head == embedding and apart:
        head = f"{name_of(model, model.get_output_embeddings())}.weight"
        tensors[head] = tensors[embedding]
    if patch.added is not None and patch.added.grows:
        bias = f"{name_of(model, model.get_output_embeddings())}.bias"
        for name in {embedding, head, *([bias] if bias in tensors else [])}:
            tensors[name] = _longer(tensors[name], patch.added.rows)
    new = {embedding: patch.values_of("input"), head: patch.values_of("output")}
    for name, rows in new.items():
        tensors[name] = tensors[name].clone()  # a tensor of its own, also where it keeps its values
        if rows is not None:
            tensors[name][torch.from_numpy(patch.ids)] = rows.to(tensors[name].dtype)
    return _Content(tensors=tensors, is_untied=not tied or apart, patch=patch)


def _longer(values: torch.Tensor, count: int) -> torch.Tensor:
    """Return a matrix or a bias with so many rows: those that are new are the mean of the others."""
    table = values.reshape(len(values), -1)
    new = mean_of_rows(table).to(values.dtype).expand(count - len(table), -1)
    return torch.cat([table, new]).reshape(count, *values.shape[1:])


def _with_adapter(base: Checkpoint, product: SavedProduct, model: PreTrainedModel, *, force: bool) -> _Content:
    """Return the base's tensors with an adapter merged into them."""
    if product.kind != "adapter":
        raise UserError(f"{product.folder} is a whole model already: use it as it is")
    if product.adapter_kind in PROMPT_LEARNING:
        raise UserError(
            f"the adapter {product.folder} is of kind {product.adapter_kind}: its virtual tokens stand before the text and are "
            "no weights of the model, so that it cannot be merged. Load it with PEFT as it is"
        )
    product.check_base(base, force=force)
    adapted = AdaptedCheckpoint.open(product.folder, base)
    tensors, tied = _tensors(base), ties(model, base)
    if adapted.tied_head is not None:
        head = f"{name_of(model, model.get_output_embeddings())}.weight"
        tensors[head] = tensors[base.embedding].clone()
    for name in adapted.overlays:
        stored = head if name == adapted.tied_head else name  # pyright: ignore[reportPossiblyUnboundVariable]
        unit = adapted.units.get(name)
        if unit is None or stored not in tensors or unit.count * unit.width != tensors[stored].numel():
            raise UserError(
                f"the adapter {product.folder} gives {name} another shape than {base.name} has: merge it with PEFT"
            )
        values = adapted.block(name, 0, unit.count)
        values = values.T if unit.transposed else values
        tensors[stored] = values.reshape(tensors[stored].shape).to(tensors[stored].dtype).contiguous()
    return _Content(tensors=tensors, is_untied=not tied or adapted.tied_head is not None)


def _in_type(base: Checkpoint, tensors: Mapping[str, torch.Tensor], dtype: str) -> dict[str, torch.Tensor]:
    """Return the tensors of floats in a type."""
    if dtype == "auto":
        if not _is_gguf(base):
            return dict(tensors)
        dtype = OF_GGUF
    kind = getattr(torch, dtype)
    return {name: value.to(kind) if value.is_floating_point() else value for name, value in tensors.items()}


def _rounded(base: Checkpoint, tensors: Mapping[str, torch.Tensor]) -> set[str]:
    """Return the types of tensors that the base has in another type."""
    stored = {name: entry.dtype for name, entry in base.tensors.items()}
    changed = {value.dtype for name, value in tensors.items() if stored.get(name, value.dtype) != value.dtype}
    return {str(kind).removeprefix("torch.") for kind in changed}


def _is_gguf(base: Checkpoint) -> bool:
    return bool(base.folder.parts) and (base.folder / ORIGIN_FILE).is_file()


def _size_sentence(base: Checkpoint, tensors: Mapping[str, torch.Tensor], types: list[str], dtype: str) -> str:
    """Say how large the model will be, in which type, and why."""
    count = sum(value.numel() for value in tensors.values())
    here = size(sum(value.nbytes for value in tensors.values()))
    if dtype != "auto":
        why = ""
    elif _is_gguf(base):
        why = f" (the base is a GGUF file; {size(4 * count)} with dtype float32)"
    else:
        why = ", the base's type"
    return f"writing {count:,} parameters in {' and '.join(types)}{why}: {here}"


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
        kept = extra.suffix in {".json", ".model", ".txt", ".jinja"} and not extra.name.endswith(".index.json")
        if kept and extra.name not in NOT_OF_THE_MODEL:
            shutil.copyfile(extra, folder / extra.name)
