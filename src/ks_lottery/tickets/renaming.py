"""Tensors of two models that bear the same name but for a known prefix, and those that are no weights."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from ks_lottery.checkpoint.wrappers import unwrapped

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ks_lottery.checkpoint.tensors import Units

PREFIXES = ("base_model.model.", "module.", "model.", "transformer.", "language_model.")
"""What libraries put before the names of the same weights: PEFT, DDP, and transformers over its versions."""

BUFFERS = re.compile(r"(^|\.)(rotary_emb\.inv_freq|position_ids|masked_bias)$")
"""Tensors that a library computes and that older versions of it saved."""

MASK = re.compile(r"(^|\.)(attn|attention)\.bias$")
"""The same for the causal mask, which is no vector as a bias is."""


def plain_name(name: str) -> str:
    """Return a name without modules that wrap others, and without the known prefixes that it then begins with.

    >>> plain_name("module.model.language_model.layers.0.mlp.up_proj.weight")
    'layers.0.mlp.up_proj.weight'
    """
    name = unwrapped(name)
    while True:
        short = next((name.removeprefix(prefix) for prefix in PREFIXES if name.startswith(prefix)), name)
        if short == name:
            return name
        name = short


def renamed(base: Mapping[str, Units], tuned: Mapping[str, Units]) -> dict[str, str]:
    """Return name in `base` to name in `tuned` of the tensors that differ in their prefix and wrappers alone.

    Parameters
    ----------
    base, tuned
        The tensors that have no namesake on the other side.

    Returns
    -------
    dict
        A pair only where the name without its prefix is that of one tensor on each side, and the two have one shape.
    """
    sides = [_by_plain_name(units) for units in (base, tuned)]
    return {
        sides[0][plain]: sides[1][plain]
        for plain in sides[0]
        if plain in sides[1] and _form(base[sides[0][plain]]) == _form(tuned[sides[1][plain]])
    }


def _by_plain_name(names: Iterable[str]) -> dict[str, str]:
    plain = {name: plain_name(name) for name in names}
    number = Counter(plain.values())
    return {short: name for name, short in plain.items() if number[short] == 1}


def _form(unit: Units) -> tuple[int, int, bool, bool]:
    return unit.count, unit.width, unit.matrix, unit.transposed


def is_buffer(name: str, unit: Units) -> bool:
    """Say whether a tensor is no weight, but computed: a mask, positions or frequencies."""
    return BUFFERS.search(name) is not None or (unit.matrix and MASK.search(name) is not None)
