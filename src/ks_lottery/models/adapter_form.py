"""The form in which PEFT computes what a row patch does: trainable tokens, or a module saved whole."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ks_lottery.checkpoint.grown import mean_of_matrix, mean_row

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt
    from peft import PeftConfig
    from torch import nn
    from transformers import PreTrainedModel

    from ks_lottery.checkpoint.patch import RowPatch
    from ks_lottery.checkpoint.reader import Checkpoint


def in_order(config: PeftConfig) -> PeftConfig:
    """Return a config with lists in order in place of its sets, which each process would write in another order."""
    ordered = copy.copy(config)
    for name, value in vars(config).items():
        if isinstance(value, set):
            setattr(ordered, name, sorted(value))
    return ordered


def name_of(model: nn.Module, target: nn.Module | None) -> str:
    """Return the name of a module in a model."""
    return next(name for name, module in model.named_modules() if module is target)


def matrices(checkpoint: Checkpoint) -> tuple[str, str]:
    """Return the names of input and output embedding; one name where they are tied."""
    return checkpoint.embedding, checkpoint.head


def patched_matrix(
    checkpoint: Checkpoint, tensor: str, ids: npt.NDArray[np.int64], rows: torch.Tensor | None, beyond: int = 0
) -> torch.Tensor:
    """Return a matrix whole, with new rows, in its stored type, and with so many rows beyond it: their mean, unless new."""
    unit = checkpoint.units[tensor]
    matrix = checkpoint.block(tensor, 0, unit.count)
    if beyond:
        matrix = torch.cat([matrix, mean_of_matrix(checkpoint, tensor).to(matrix.dtype).expand(beyond, -1)])
    if rows is not None:
        matrix[torch.from_numpy(ids)] = rows.to(matrix.dtype)
    return matrix


@dataclass(frozen=True)
class AdapterForm:
    """Content of an adapter: module to rows and their values, and module to its parameters saved whole.

    `mirrored` is the module to which PEFT itself copies the rows of the embedding.
    """

    tokens: Mapping[str, tuple[list[int], torch.Tensor]]
    whole: Mapping[str, Mapping[str, torch.Tensor]]
    mirrored: str | None


def adapter_form(checkpoint: Checkpoint, patch: RowPatch, model: PreTrainedModel, *, tied: bool) -> AdapterForm:
    """Choose the form in which PEFT computes what we do.

    That is trainable tokens, or a whole module where they cannot express the patch: PEFT 0.21 drops the bias of a head, and
    mirrors tokens of a tied embedding into the head unless each side has tokens of its own, which needs a row that the patch
    does not change.
    """
    ids = [int(i) for i in patch.ids]
    modules = {"input": model.get_input_embeddings(), "output": model.get_output_embeddings()}
    names = {side: name_of(model, module) for side, module in modules.items()}
    bias = getattr(modules["output"], "bias", None) is not None
    tokens: dict[str, tuple[list[int], torch.Tensor]] = {}
    whole: dict[str, dict[str, torch.Tensor]] = {}
    spare = next((i for i in range(checkpoint.vocabulary) if i not in set(ids)), None)
    both = patch.side == "both"
    beyond = () if patch.added is None else patch.added.beyond
    more = 0 if patch.added is None else patch.added.rows_over(checkpoint.vocabulary) - checkpoint.vocabulary
    for side, tensor in zip(names, matrices(checkpoint), strict=True):
        rows = patch.values_of("input" if side == "input" else "output")
        if rows is None and not beyond:
            continue
        if (bias and (side == "output" or tied)) or (tied and not both and spare is None):
            whole[names[side]] = {"weight": patched_matrix(checkpoint, tensor, patch.ids, rows, more)}
            if side == "output" and bias:
                offset = checkpoint.block(f"{names['output']}.bias", 0, 1).reshape(-1)
                whole[names[side]]["bias"] = torch.cat([offset, offset.mean().expand(more)])
        elif rows is None:
            if not tied:  # resizing would fill them at random
                tokens[names[side]] = (list(beyond), _mean_rows(checkpoint, side, more))
        else:
            tokens[names[side]] = (ids, rows)
            if tied and not both and spare is not None:
                other = names["output" if side == "input" else "input"]
                kept = [checkpoint.rows(np.array([spare])), _mean_rows(checkpoint, "input", more)]
                tokens[other] = ([spare, *beyond], torch.cat(kept))
    return AdapterForm(tokens, whole, names["output"] if tied and both else None)


def _mean_rows(checkpoint: Checkpoint, side: str, count: int) -> torch.Tensor:
    """Return rows of new tokens on a side that keeps its values, shape (K, d): each is the mean of that side."""
    return mean_row(checkpoint, side).expand(count, -1) if count else torch.empty((0, checkpoint.width))


def peft_config(model: PreTrainedModel, adapter: AdapterForm, base: str) -> Any:
    """Return PEFT's config of a form."""
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


def filled(name: str, tensor: torch.Tensor, adapter: AdapterForm) -> torch.Tensor:
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
