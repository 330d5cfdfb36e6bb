"""A model over several devices: its layers are spread over GPUs, main memory and disk, where accelerate runs them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import torch
    from torch import nn
    from transformers import PreTrainedModel

    Device = int | str

FREE = 0.9
"""Share of the free memory of a GPU that weights may take; the rest is for what a batch computes."""


def gpu_memory(count: int) -> dict[int | str, int]:
    """Return the bytes of each of the first GPUs of this process that weights may take, by its number."""
    import torch

    return {gpu: int(FREE * torch.cuda.mem_get_info(gpu)[0]) for gpu in range(count)}


def empty_model(folder: Path, dtype: torch.dtype, *, trust_remote_code: bool) -> PreTrainedModel:
    """Return the model of a folder without its weights, which are ``meta``."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    more = {"trust_remote_code": trust_remote_code}
    config = AutoConfig.from_pretrained(str(folder), local_files_only=True, **more)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=dtype, **more)


def device_map(lm: nn.Module, max_memory: Mapping[int | str, int | str], name: str) -> dict[str, int | str]:
    """Return on which device each module of a model is.

    The layers are spread evenly over the GPUs, in their order; those that do not fit there are in main memory and, beyond its
    share, on the disk. All that is outside the layers, such as both embeddings, is on the first device.

    Parameters
    ----------
    lm
        The model, without weights (``meta``).
    max_memory
        Bytes, or such as ``10GiB``, that weights may take on each GPU, by its number, and in main memory, ``cpu``. Without
        ``cpu`` all layers must fit on the GPUs.
    name
        What the user called the model.

    Raises
    ------
    UserError
        When the model does not fit.
    """
    from accelerate.utils import convert_file_size_to_int

    logging.getLogger("accelerate.big_modeling").setLevel(logging.ERROR)  # it warns of layers on the disk
    room = {device: convert_file_size_to_int(size) for device, size in max_memory.items()}
    gpus: list[Device] = [*sorted(device for device in room if isinstance(device, int))]
    order: list[Device] = [*gpus, *(("cpu", "disk") if "cpu" in room else ())]
    every = _bytes(lm)
    split: set[str] = set(getattr(lm, "_no_split_modules", None) or ())
    layers = [place for place, module in lm.named_modules() if type(module).__name__ in split]
    layers = [place for place in layers if not any(place.startswith(f"{other}.") for other in layers)]
    sizes = {layer: _bytes(lm.get_submodule(layer)) for layer in layers}
    used = dict.fromkeys(order, 0)
    used[order[0]] = every - sum(sizes.values())
    share = every / max(1, len(gpus)) + max(sizes.values(), default=0) / 2
    limits = {device: min(room.get(device, every), share if device in gpus[:-1] else every) for device in order}
    if used[order[0]] > room[order[0]]:
        raise UserError(
            f"{name}: its embeddings take {used[order[0]] / 2**30:.2f} GiB, but the first device may hold only "
            f"{room[order[0]] / 2**30:.2f} GiB. Give it more memory."
        )
    places: dict[str, Device] = {}
    number = 0
    for layer in layers:
        while number < len(order) and used[order[number]] + sizes[layer] > limits[order[number]]:
            number += 1
        if number == len(order):
            raise UserError(
                f"{name}: its {every / 2**30:.2f} GiB do not fit on {len(gpus)} GPUs. Give more GPUs (`processes`), or "
                "another type."
            )
        places[layer] = order[number]
        used[order[number]] += sizes[layer]
    return {**dict.fromkeys(_outside(lm, "", set(layers)), order[0]), **places}


def _bytes(module: nn.Module) -> int:
    """Return the bytes of the tensors of a module, those that it shares once."""
    return sum(tensor.numel() * tensor.element_size() for tensor in (*module.parameters(), *module.buffers()))


def _outside(module: Any, name: str, layers: set[str]) -> Iterator[str]:
    """Yield the names of the largest modules without a layer, of those that hold something."""
    for part, child in module.named_children():
        place = f"{name}.{part}" if name else part
        if place in layers:
            continue
        if any(layer.startswith(f"{place}.") for layer in layers):
            yield from _outside(child, place, layers)
        else:
            yield place
