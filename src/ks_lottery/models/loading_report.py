"""What transformers says of the weights that it loaded: nothing may be missing, which it would fill with random numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ks_lottery.checkpoint.wrappers import unwrapped
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ks_lottery.checkpoint.reader import Checkpoint


def check_weights(checkpoint: Checkpoint, report: Mapping[str, Any]) -> None:
    """Refuse a model that lacks weights, or has some of another shape than its config says.

    Parameters
    ----------
    report
        What ``from_pretrained`` returns with ``output_loading_info``.

    Raises
    ------
    UserError
        Naming the first of them.
    """
    sizes = sorted(report["mismatched_keys"])
    if sizes:
        tensor, stored, wanted = sizes[0]
        if tensor in checkpoint.packed:
            raise UserError(f"{checkpoint.name}: {tensor} {checkpoint.packed[tensor]}")
        raise UserError(
            f"{checkpoint.name} cannot be loaded: {tensor} is {_shape(stored)}, but by its config {_shape(wanted)}"
            f"{_more(sizes)}: give the config.json that belongs to the weights"
        )
    missing = sorted(report["missing_keys"])
    if not missing:
        return
    stored = _stored_as(missing[0], report["unexpected_keys"])
    if stored is not None:
        raise UserError(
            f"{checkpoint.name} cannot be loaded: it has {missing[0]} under the name {stored}{_more(missing)}: save the model "
            "again without what wraps it"
        )
    raise UserError(
        f"{checkpoint.name} cannot be loaded: its config needs {missing[0]}, which no file has{_more(missing)}: "
        "get the model again"
    )


def _stored_as(tensor: str, names: Iterable[str]) -> str | None:
    """Return the name under which a tensor is stored, with the modules of a library around it; None where it is not."""
    return next((name for name in sorted(names) if f".{unwrapped(name)}".endswith(f".{tensor}")), None)


def _more(names: list[Any]) -> str:
    return f" (and {len(names) - 1:,} more like it)" if len(names) > 1 else ""


def _shape(sizes: Iterable[int]) -> str:
    return " x ".join(f"{size:,}" for size in sizes)
