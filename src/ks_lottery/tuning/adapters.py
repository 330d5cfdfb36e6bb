"""LoRA, QLoRA, prefix and prompt tuning through PEFT, at the settings at which table 2 of the paper comes out."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ks_lottery.errors import UserError
from ks_lottery.models.adapter_form import in_order
from ks_lottery.models.equipped import take_off
from ks_lottery.models.language_model import LabelledLanguageModel
from ks_lottery.models.products import RECORD_FILE, training_record
from ks_lottery.models.prompted import PromptedLanguageModel
from ks_lottery.models.quiet import quiet
from ks_lottery.store.files import write_json
from ks_lottery.tuning.trainable import Trainable
from ks_lottery.tuning.trainer import gather, whole

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from peft import PeftConfig
    from torch import nn

    from ks_lottery.models.load import LoadedModel

VIRTUAL_TOKENS = 10
"""Of prefix and prompt tuning: 10 x 4,096 is the 0.04M of table 2."""

LORA_RANK = {"lora": 8, "qlora": 16}
"""Ranks at which table 2 comes out; the paper names none."""

LORA_ALPHA = 16
"""Scale of the LoRA update (as QLoRA and Alpaca-LoRA); the paper names none."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Adapter:
    """A trained PEFT adapter.

    Parameters
    ----------
    config
        PEFT's own config of it.
    state
        Its tensors, as PEFT names them in a file.
    parameters
        Number of trained parameters.
    base
        Name and fingerprint of the checkpoint that it belongs to.
    settings
        How it was made.
    """

    config: PeftConfig
    state: Mapping[str, torch.Tensor]
    parameters: int
    base: Mapping[str, str]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        kind = getattr(self.config.peft_type, "value", self.config.peft_type)
        return f"Adapter({kind}, {self.parameters:,} parameters, base {self.base.get('name')})"

    def save(self, folder: str | Path) -> Path:
        """Write a folder for `peft.PeftModel.from_pretrained`, and return it."""
        from safetensors.torch import save_file

        folder = Path(folder).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        save_file(dict(self.state), folder / "adapter_model.safetensors", metadata={"format": "pt"})
        with quiet():
            in_order(self.config).save_pretrained(str(folder))
        write_json(folder / RECORD_FILE, training_record(self.base, self.settings))
        return folder


def adapter_config(
    method: str, model: nn.Module, *, base: str | None = None, virtual_tokens: int = VIRTUAL_TOKENS
) -> PeftConfig:
    """Return PEFT's config of a method for a model.

    Table 2 of the paper gives numbers of parameters alone. At LLaMA-7B's shapes they are those of rank 8 on query and value
    (LoRA, 4.2M), of rank 16 on the four projections of the attention (QLoRA, 17M), and of 10 virtual tokens in the input layer
    (0.04M), which PEFT calls prompt tuning; keys and values in every layer, prefix tuning, are 2.6M.

    Parameters
    ----------
    model
        The language model; it is looked at for the names of its projections.
    base
        Folder of the base, for the file.
    virtual_tokens
        Of prefix and prompt, 1 or more; the paper's by default.

    Raises
    ------
    UserError
        When the projections of the model are not known.
    """
    from peft import LoraConfig, PrefixTuningConfig, PromptTuningConfig

    common: dict[str, Any] = {"task_type": "CAUSAL_LM", "base_model_name_or_path": base}
    if method == "prefix":
        return PrefixTuningConfig(num_virtual_tokens=virtual_tokens, **common)
    if method == "prompt":
        return PromptTuningConfig(num_virtual_tokens=virtual_tokens, **common)
    modules = projections(model)
    if method == "lora":
        modules = [name for name in modules if name.rpartition(".")[2] in QUERY_VALUE]
    if not modules:
        raise UserError(
            f"{method} does not know the query and value projections of a {type(model).__name__}: tune it by another method"
        )
    transposed = type(model.get_submodule(modules[0])).__name__ == "Conv1D"
    return LoraConfig(
        r=LORA_RANK[method], lora_alpha=LORA_ALPHA, target_modules=modules, fan_in_fan_out=transposed, **common
    )


QUERY_VALUE = ("q_proj", "v_proj", "query", "value", "q_lin", "v_lin", "query_key_value", "c_attn", "qkv_proj", "Wqkv")
"""What model families call the projections to queries and values; some have them in one with the keys."""


def projections(model: nn.Module) -> list[str]:
    """Return the names of the matrices of every self-attention: query, key, value and output."""
    return [
        f"{name}.{part}"
        for name, module in model.named_modules()
        if "attention" in type(module).__name__.lower()
        for part, child in module.named_children()
        if type(child).__name__ in {"Linear", "Conv1D", "Linear4bit", "Linear8bitLt"}
    ]


@contextmanager
def adapter_trainable(
    loaded: LoadedModel,
    method: str,
    *,
    share_prefix: bool = True,
    described: Mapping[str, Any] | None = None,
    seed: int = 0,
    virtual_tokens: int = VIRTUAL_TOKENS,
) -> Generator[Trainable[Adapter]]:
    """Put an adapter into a model inside a block; afterwards the model is as it was.

    Adapters are float32 whatever the precision of the frozen body, as PEFT makes them.
    """
    from peft import PeftModel, get_peft_model, get_peft_model_state_dict

    lm: Any = loaded.lm
    virtual = method in {"prefix", "prompt"}
    folder = loaded.checkpoint.location
    with quiet(), torch.random.fork_rng():
        torch.manual_seed(seed)  # an adapter starts at random
        config = adapter_config(method, lm, base=folder, virtual_tokens=virtual_tokens)
        adapted: Any = get_peft_model(lm, config)
    assert isinstance(adapted, PeftModel)  # noqa: S101 (a task type was given)
    count = sum(p.numel() for p in adapted.parameters() if p.requires_grad)

    def collect() -> Adapter:
        if virtual:
            gather(model)  # PEFT computes the virtual tokens; reading the model's state would shard it again
        with quiet():
            state = get_peft_model_state_dict(adapted, state_dict={} if virtual else None, save_embedding_layers=False)
        config.inference_mode = True
        return Adapter(
            config=config,
            state={name: whole(tensor) for name, tensor in state.items()},
            parameters=count,
            base=loaded.checkpoint.describe(),
            settings=dict(described or {}),
        )

    try:
        model = PromptedLanguageModel(adapted) if virtual else LabelledLanguageModel(lm, share_prefix=share_prefix)
        yield Trainable(model=model, collect=collect)
    finally:
        take_off(lm, adapted)
