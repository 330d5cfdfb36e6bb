"""Full tuning: the model's own parameters, all of them or those of some layers.

They are trained in float32, since an update at a small learning rate is lost in the rounding of 16 bits.
"""

from __future__ import annotations

import fnmatch
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_lottery.errors import UserError
from ks_lottery.models.language_model import LabelledLanguageModel
from ks_lottery.models.products import RECORD_FILE, training_record
from ks_lottery.models.quiet import quiet
from ks_lottery.store.files import write_json
from ks_lottery.tuning.trainable import Trainable
from ks_lottery.tuning.trainer import whole

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    import torch
    from torch import nn

    from ks_lottery.models.load import LoadedModel

LAYER = re.compile(r"\.(\d+)\.")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TunedModel:
    """A whole model after full tuning.

    Parameters
    ----------
    loaded
        The model, in float32, and its tokenizer; its `checkpoint` is the base.
    state
        Every tensor of it, by name.
    parameters
        Number of trained parameters.
    settings
        How it was made.
    """

    loaded: LoadedModel
    state: Mapping[str, torch.Tensor]
    parameters: int
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"TunedModel({self.parameters:,} parameters trained, base {self.loaded.checkpoint.name})"

    def save(self, folder: str | Path) -> Path:
        """Write a folder that transformers loads: weights in float32, config, tokenizer; and return it."""
        folder = Path(folder).expanduser()
        with quiet():
            self.loaded.lm.save_pretrained(folder, state_dict=dict(self.state))
            self.loaded.tokenizer.save_pretrained(folder)
        write_json(folder / RECORD_FILE, training_record(self.loaded.checkpoint.describe(), self.settings))
        return folder


def chosen_parameters(model: nn.Module, layers: str | None) -> list[str]:
    """Return the names of the parameters that full tuning trains.

    Parameters
    ----------
    layers
        Layers by number, such as ``3`` or ``0,4-7``, or glob patterns for names, such as ``*.mlp.*``; None for all.

    Raises
    ------
    UserError
        When a layer or pattern matches no parameter.

    Examples
    --------
    >>> from torch import nn
    >>> model = nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(2, 2) for _ in range(3)])})
    >>> chosen_parameters(model, "1"), chosen_parameters(model, "*.2.bias")
    (['layers.1.weight', 'layers.1.bias'], ['layers.2.bias'])
    """
    names = [name for name, _ in model.named_parameters()]
    if layers is None:
        return names
    wanted: set[str] = set()
    numbers = {name: int(match[1]) for name in names if (match := LAYER.search(name))}
    for part in (piece.strip() for piece in layers.split(",")):
        span = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if span:
            inside = range(int(span[1]), int(span[2] or span[1]) + 1)
            matched = [name for name in names if numbers.get(name) in inside]
        else:
            matched = fnmatch.filter(names, part)
        if not matched:
            last = max(numbers.values(), default=-1)
            raise UserError(
                f"`layers={part}` meets no parameter: layers are numbered 0 to {last}, and names look like {names[-1]}"
            )
        wanted |= set(matched)
    return [name for name in names if name in wanted]


@contextmanager
def full_trainable(
    loaded: LoadedModel,
    layers: str | None,
    *,
    share_prefix: bool = True,
    autocast: bool = False,
    described: Mapping[str, Any] | None = None,
) -> Generator[Trainable[TunedModel]]:
    """Let parameters of a float32 model be trained; the model is the caller's own copy, and is changed."""
    lm: Any = loaded.lm
    chosen = set(chosen_parameters(lm, layers))
    for name, parameter in lm.named_parameters():
        parameter.requires_grad_(name in chosen)
    count = sum(p.numel() for p in lm.parameters() if p.requires_grad)

    def collect() -> TunedModel:
        state = {name: whole(tensor) for name, tensor in lm.state_dict().items()}
        return TunedModel(loaded=loaded, state=state, parameters=count, settings=dict(described or {}))

    try:
        model = LabelledLanguageModel(lm, share_prefix=share_prefix)
        yield Trainable(model=model, collect=collect, autocast=autocast)
    finally:
        lm.requires_grad_(requires_grad=False)
