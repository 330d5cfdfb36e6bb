"""What libraries that wrap a module put into the names of its weights."""

from __future__ import annotations

WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""Modules around another one, at any place of a name: of torch.compile, FSDP and activation checkpointing."""


def unwrapped(name: str) -> str:
    """Return the name of a tensor without the modules that wrap others.

    >>> unwrapped("model.layers.0._orig_mod.mlp.up_proj.weight")
    'model.layers.0.mlp.up_proj.weight'
    """
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)
