"""Writes a patch as an adapter that PEFT loads, or merged into a plain transformers folder."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from ks_lottery.config.job_commands import ExportSettings
from ks_lottery.config.values import checks_names
from ks_lottery.errors import UserError
from ks_lottery.models.quiet import quiet
from ks_lottery.store.files import new_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import numpy.typing as npt
    from transformers import PreTrainedModel

    from ks_lottery.checkpoint.patch import RowPatch
    from ks_lottery.checkpoint.reader import Checkpoint


def _skeleton(checkpoint: Checkpoint) -> PreTrainedModel:
    """Build the model without its weights, to learn the names of its modules."""
    from transformers import AutoConfig, AutoModelForCausalLM

    with quiet(), torch.device("meta"):
        config = AutoConfig.from_pretrained(str(checkpoint.folder), local_files_only=True)
        return AutoModelForCausalLM.from_config(config)


def _name_of(model: nn.Module, target: nn.Module | None) -> str:
    return next(name for name, module in model.named_modules() if module is target)


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
        [checkpoint.block(t, i, min(i + _ROWS, checkpoint.vocabulary)) for i in rows] for t in _matrices(checkpoint)
    )
    return all(torch.equal(a, b) for a, b in zip(*blocks, strict=True))


_ROWS = 1 << 14


def _matrices(checkpoint: Checkpoint) -> tuple[str, str]:
    return checkpoint.embedding, checkpoint.head


def _check(checkpoint: Checkpoint, patch: RowPatch, *, tied: bool, force: bool) -> None:
    patch.check_base(checkpoint, force=force)
    if patch.side == "both" and tied != (patch.output_values is None):
        how = "one set of values for both sides" if tied else "a set of values for each side"
        raise UserError(
            f"the patch does not fit {checkpoint.name}, whose embeddings need {how}: give the base it was made on"
        )


def _patched(checkpoint: Checkpoint, tensor: str, ids: npt.NDArray[np.int64], rows: torch.Tensor) -> torch.Tensor:
    """Return a matrix whole, with new rows, in its stored type."""
    unit = checkpoint.units[tensor]
    matrix = checkpoint.block(tensor, 0, unit.count)
    matrix[torch.from_numpy(ids)] = rows.to(matrix.dtype)
    return matrix


@dataclass(frozen=True)
class _Adapter:
    """Content of an adapter: module to rows and their values, and module to its parameters saved whole.

    `mirrored` is the module to which PEFT itself copies the rows of the embedding.
    """

    tokens: Mapping[str, tuple[list[int], torch.Tensor]]
    whole: Mapping[str, Mapping[str, torch.Tensor]]
    mirrored: str | None


def _adapter(checkpoint: Checkpoint, patch: RowPatch, model: PreTrainedModel, *, tied: bool) -> _Adapter:
    """Choose the form in which PEFT computes what we do.

    That is trainable tokens, or a whole module where they cannot express the patch: PEFT 0.21 drops the bias of a head, and
    mirrors tokens of a tied embedding into the head unless each side has tokens of its own, which needs a row that the patch
    does not change.
    """
    ids = [int(i) for i in patch.ids]
    modules = {"input": model.get_input_embeddings(), "output": model.get_output_embeddings()}
    names = {side: _name_of(model, module) for side, module in modules.items()}
    bias = getattr(modules["output"], "bias", None) is not None
    tokens: dict[str, tuple[list[int], torch.Tensor]] = {}
    whole: dict[str, dict[str, torch.Tensor]] = {}
    spare = next((i for i in range(checkpoint.vocabulary) if i not in set(ids)), None)
    both = patch.side == "both"
    for side, tensor in zip(names, _matrices(checkpoint), strict=True):
        rows = patch.values_of("input" if side == "input" else "output")
        if rows is None:
            continue
        if (bias and (side == "output" or tied)) or (tied and not both and spare is None):
            whole[names[side]] = {"weight": _patched(checkpoint, tensor, patch.ids, rows)}
            if side == "output" and bias:
                name = f"{names['output']}.bias"
                whole[names[side]]["bias"] = checkpoint.block(name, 0, 1).reshape(-1)
        else:
            tokens[names[side]] = (ids, rows)
            if tied and not both and spare is not None:
                other = names["output" if side == "input" else "input"]
                tokens[other] = ([spare], checkpoint.rows(np.array([spare])))
    return _Adapter(tokens, whole, names["output"] if tied and both else None)


def _peft_config(model: PreTrainedModel, adapter: _Adapter, base: str) -> Any:
    from peft import LoraConfig, TrainableTokensConfig

    sets = [ids for ids, _ in adapter.tokens.values()]
    if not adapter.whole and all(ids == sets[0] for ids in sets):
        return TrainableTokensConfig(
            token_indices=sets[0],
            target_modules=[name for name in adapter.tokens if name != adapter.mirrored],
            task_type="CAUSAL_LM",
            base_model_name_or_path=base,
        )
    body = model.base_model
    carrier = next(n for n, m in body.named_modules() if type(m).__name__ in {"Linear", "Conv1D"})
    return LoraConfig(
        r=1,
        target_modules=[carrier],
        trainable_token_indices={name: ids for name, (ids, _) in adapter.tokens.items()} or None,
        modules_to_save=list(adapter.whole) or None,
        task_type="CAUSAL_LM",
        base_model_name_or_path=base,
        fan_in_fan_out=type(body.get_submodule(carrier)).__name__ == "Conv1D",
    )


@checks_names
def to_peft(checkpoint: Checkpoint, patch: RowPatch, folder: Path, *, force: bool = ExportSettings.force) -> None:
    """Write an adapter for `peft.PeftModel.from_pretrained`.

    The adapter has PEFT's trainable tokens, on the module of each side that the patch changes. On a tied model a patch of one
    side would change the other side too. There a LoRA of rank 1, all zero, has trainable tokens for both sides with different
    ids, which PEFT keeps apart: the patch's tokens, and on the other side one token with its base value. Where trainable
    tokens cannot express the patch (a head with a bias; every row of one side of a tied model), the module is saved whole,
    V x d values.

    Parameters
    ----------
    force
        Accept a patch of another base.

    Raises
    ------
    UserError
        When the patch is empty or belongs to another base, or `folder` is not empty.
    """
    from peft import get_peft_model, get_peft_model_state_dict
    from safetensors.torch import save_file

    model = _skeleton(checkpoint)
    tied = _ties(model, checkpoint)
    _check(checkpoint, patch, tied=tied, force=force)
    if len(patch) == 0:
        raise UserError("the patch changes no row: there is nothing to export")
    adapter = _adapter(checkpoint, patch, model, tied=tied)
    with quiet():
        config = _peft_config(model, adapter, str(checkpoint.folder.resolve()))
        state = get_peft_model_state_dict(
            get_peft_model(model, config, low_cpu_mem_usage=True), save_embedding_layers=False
        )
    tensors = {name: _filling(name, tensor, adapter) for name, tensor in state.items()}
    config.inference_mode = True
    with new_folder(folder) as temporary:
        save_file(tensors, temporary / "adapter_model.safetensors", metadata={"format": "pt"})
        with quiet():
            config.save_pretrained(str(temporary))
        (temporary / "README.md").write_text(_card(checkpoint, patch, "peft"), encoding="utf-8")


def _filling(name: str, tensor: torch.Tensor, adapter: _Adapter) -> torch.Tensor:
    """Return the tensor for one name of PEFT's state: rows of the patch, a parameter of a module, or the zero LoRA."""
    for module, (_, rows) in adapter.tokens.items():
        if f".{module}." in name:
            return rows.clone()  # no two names of a file may share memory
    for module, parameters in adapter.whole.items():
        if f".{module}." in name:
            return parameters[name.rpartition(".")[2]].contiguous()
    if ".lora_" not in name:
        raise RuntimeError(f"PEFT expects {name} in the adapter, which is unknown here")
    return torch.zeros(tensor.shape)


@checks_names
def to_merged(checkpoint: Checkpoint, patch: RowPatch, folder: Path, *, force: bool = ExportSettings.force) -> None:
    """Write a plain transformers folder with the new rows inside.

    A tied model is written untied, with the unchanged side as a tensor of its own, unless the patch changes both sides.

    Parameters
    ----------
    force
        Accept a patch of another base.

    Raises
    ------
    UserError
        When the patch belongs to another base, or `folder` is not empty.
    """
    from huggingface_hub import save_torch_state_dict
    from safetensors import safe_open

    model = _skeleton(checkpoint)
    tied = _ties(model, checkpoint)
    _check(checkpoint, patch, tied=tied, force=force)
    tensors: dict[str, torch.Tensor] = {}
    for file in sorted({entry.file for entry in checkpoint.tensors.values()}):
        with safe_open(file, "pt") as opened:
            tensors.update({name: opened.get_tensor(name) for name in opened.keys()})  # noqa: SIM118 (not a dict)
    embedding, head = _matrices(checkpoint)
    config = dict(checkpoint.config)
    apart = tied and patch.side != "both"
    if head == embedding and apart:
        head = f"{_name_of(model, model.get_output_embeddings())}.weight"
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
    with new_folder(folder) as temporary:
        save_torch_state_dict(tensors, temporary, max_shard_size="5GB")
        for extra in checkpoint.folder.iterdir():
            if extra.suffix in {".json", ".model", ".txt", ".jinja"} and not extra.name.endswith(".index.json"):
                shutil.copyfile(extra, temporary / extra.name)
        (temporary / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        (temporary / "README.md").write_text(_card(checkpoint, patch, "merged"), encoding="utf-8")


FORMATS: dict[str, Callable[..., None]] = {"peft": to_peft, "merged": to_merged}
"""Name of a format to the function that writes it."""


def _card(checkpoint: Checkpoint, patch: RowPatch, kind: str) -> str:
    use = {
        "peft": "Load it with `peft.PeftModel.from_pretrained(base, folder)`. Do not merge it with PEFT: the base may be "
        "tied, and merging writes into both sides; export the merged folder with ks-lottery instead.",
        "merged": "Load it with `transformers.AutoModelForCausalLM.from_pretrained(folder)`.",
    }[kind]
    settings = json.dumps(dict(patch.settings), indent=2)
    of = {"input": "the input embedding", "output": "the output embedding", "both": "both embeddings"}[patch.side]
    other = f"{patch.base.get('name')} (`{patch.base.get('fingerprint')}`)"
    same = patch.base.get("fingerprint") == checkpoint.fingerprint
    forced = "" if same else f" The rows were made on another base, {other}, and put onto this one by force."
    return (
        f"---\nbase_model: {checkpoint.name}\nlibrary_name: {'peft' if kind == 'peft' else 'transformers'}\n---\n\n"
        f"# {len(patch)} rows of {of} of {checkpoint.name}\n\n"
        f"Made with ks-lottery. Everything but these rows is the base model, bit for bit. {use}\n\n"
        f"Base fingerprint: `{checkpoint.fingerprint}`. It belongs to these weights alone: a checkpoint of the same name "
        f"with other weights (another quantisation, another revision) is another base.{forced}\n\n"
        f"Settings:\n\n```json\n{settings}\n```\n"
    )
