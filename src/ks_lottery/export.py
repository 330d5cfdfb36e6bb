"""Ships a patch: as an adapter that PEFT loads, or merged into a plain transformers folder.

Must never change the output head of a tied model, nor write into a folder that holds something.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from ks_lottery.artifacts import write_error
from ks_lottery.errors import UserError
from ks_lottery.models.quiet import quiet

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from transformers import PreTrainedModel

    from ks_lottery.checkpoint.patch import RowPatch
    from ks_lottery.checkpoint.reader import Checkpoint


@contextmanager
def _new_folder(folder: Path) -> Generator[Path]:
    """Yield a temporary folder that becomes `folder` when the block ends well."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists and is not an empty folder: give another one to export to")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise write_error(folder, error) from error
    try:
        yield temporary
        temporary.chmod(0o755)
        if folder.is_dir():
            folder.rmdir()
        temporary.replace(folder)
    except OSError as error:
        raise write_error(folder, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _skeleton(checkpoint: Checkpoint) -> PreTrainedModel:
    """Build the model without its weights, to learn the names of its modules."""
    from transformers import AutoConfig, AutoModelForCausalLM

    with quiet(), torch.device("meta"):
        config = AutoConfig.from_pretrained(str(checkpoint.folder), local_files_only=True)
        return AutoModelForCausalLM.from_config(config)


def _name_of(model: nn.Module, wanted: nn.Module | None) -> str:
    return next(name for name, module in model.named_modules() if module is wanted)


def is_tied(checkpoint: Checkpoint) -> bool:
    """Say whether the output head of a checkpoint is its input embedding."""
    return bool(_skeleton(checkpoint).config.get_text_config().tie_word_embeddings)


def to_peft(checkpoint: Checkpoint, patch: RowPatch, folder: Path) -> None:
    """Write an adapter for `peft.PeftModel.from_pretrained`.

    An untied model gets PEFT's trainable tokens. On a tied model those would change the output head too; a LoRA of rank
    1, all zero, carries trainable tokens for both sides with different ids, which PEFT then keeps apart: ours on the
    input side, and on the output side one token that keeps its base value.

    Raises
    ------
    UserError
        When the patch is empty or belongs to another base, or `folder` holds something.
    """
    from peft import LoraConfig, TrainableTokensConfig, get_peft_model, get_peft_model_state_dict
    from safetensors.torch import save_file

    patch.check_base(checkpoint)
    if len(patch) == 0:
        raise UserError("the patch changes no row: there is nothing to export")
    model = _skeleton(checkpoint)
    ids = [int(i) for i in patch.ids]
    embedding, head = (
        _name_of(model, model.get_input_embeddings()),
        _name_of(model, model.get_output_embeddings()),
    )
    contents: list[tuple[str, torch.Tensor]] = [(embedding, patch.values)]
    base_name = str(checkpoint.folder.resolve())
    with quiet():
        if model.config.get_text_config().tie_word_embeddings:
            other = next((i for i in range(checkpoint.vocabulary) if i not in set(ids)), None)
            if other is None:
                raise UserError("the patch changes every row of a tied model, which PEFT cannot hold: export it merged")
            contents.append((head, checkpoint.rows(np.array([other]))))
            carrier = next(n for n, m in model.base_model.named_modules() if type(m).__name__ in {"Linear", "Conv1D"})
            config: Any = LoraConfig(
                r=1,
                target_modules=[carrier],
                trainable_token_indices={embedding: ids, head: [other]},
                task_type="CAUSAL_LM",
                base_model_name_or_path=base_name,
                fan_in_fan_out=type(model.base_model.get_submodule(carrier)).__name__ == "Conv1D",
            )
        else:
            config = TrainableTokensConfig(
                token_indices=ids,
                target_modules=[embedding],
                task_type="CAUSAL_LM",
                base_model_name_or_path=base_name,
            )
        adapted = get_peft_model(model, config, low_cpu_mem_usage=True)
        state = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        filling = next((t for module, t in contents if f".{module}." in name), None)
        tensors[name] = torch.zeros(tensor.shape) if filling is None else filling.contiguous()
    config.inference_mode = True
    with _new_folder(folder) as temporary:
        save_file(tensors, temporary / "adapter_model.safetensors", metadata={"format": "pt"})
        with quiet():
            config.save_pretrained(str(temporary))
        (temporary / "README.md").write_text(_card(checkpoint, patch, "peft"), encoding="utf-8")


def to_merged(checkpoint: Checkpoint, patch: RowPatch, folder: Path) -> None:
    """Write a plain transformers folder with the new rows inside.

    A tied model is written untied: its head is the base's embedding, as a tensor of its own.

    Raises
    ------
    UserError
        When the patch belongs to another base, or `folder` holds something.
    """
    from huggingface_hub import save_torch_state_dict
    from safetensors import safe_open

    patch.check_base(checkpoint)
    model = _skeleton(checkpoint)
    tensors: dict[str, torch.Tensor] = {}
    for file in sorted({entry.file for entry in checkpoint.tensors.values()}):
        with safe_open(file, "pt") as opened:
            tensors.update({name: opened.get_tensor(name) for name in opened.keys()})  # noqa: SIM118 (not a dict)
    before = tensors[checkpoint.embedding]
    after = before.clone()
    after[torch.from_numpy(patch.ids)] = patch.values.to(before.dtype)
    tensors[checkpoint.embedding] = after
    config = dict(checkpoint.config)
    if model.config.get_text_config().tie_word_embeddings:
        tensors[f"{_name_of(model, model.get_output_embeddings())}.weight"] = before
        config["tie_word_embeddings"] = False
        if isinstance(config.get("text_config"), dict):
            config["text_config"] = {**config["text_config"], "tie_word_embeddings": False}
    with _new_folder(folder) as temporary:
        save_torch_state_dict(tensors, temporary, max_shard_size="5GB")
        for extra in checkpoint.folder.iterdir():
            if extra.suffix in {".json", ".model", ".txt", ".jinja"} and not extra.name.endswith(".index.json"):
                shutil.copyfile(extra, temporary / extra.name)
        (temporary / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        (temporary / "README.md").write_text(_card(checkpoint, patch, "merged"), encoding="utf-8")


FORMATS: dict[str, Callable[[Checkpoint, RowPatch, Path], None]] = {"peft": to_peft, "merged": to_merged}
"""Name of a format to the function that writes it."""


def _card(checkpoint: Checkpoint, patch: RowPatch, kind: str) -> str:
    use = {
        "peft": "Load it with `peft.PeftModel.from_pretrained(base, folder)`. Do not merge it with PEFT: the base may be "
        "tied, and merging writes into both sides; export the merged folder with ks-lottery instead.",
        "merged": "Load it with `transformers.AutoModelForCausalLM.from_pretrained(folder)`.",
    }[kind]
    about = json.dumps(dict(patch.settings), indent=2)
    return (
        f"---\nbase_model: {checkpoint.name}\nlibrary_name: {'peft' if kind == 'peft' else 'transformers'}\n---\n\n"
        f"# {len(patch)} rows of the input embedding of {checkpoint.name}\n\n"
        f"Made with ks-lottery. Everything but these rows is the base model, bit for bit. {use}\n\n"
        f"Base fingerprint: `{checkpoint.fingerprint}`. It belongs to these weights alone: a checkpoint of the same name "
        f"with other weights (another quantisation, another revision) is another base.\n\nSettings:\n\n```json\n{about}\n```\n"
    )
