"""Puts new rows on the input side, the output side or both of a model inside a block; afterwards the model is as before."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ks_lottery.errors import UserError
from ks_lottery.models.head import RowHead, in_pieces, output_embedding
from ks_lottery.models.rows import RowEmbedding, input_embedding

if TYPE_CHECKING:
    from collections.abc import Generator

    import numpy as np
    import numpy.typing as npt
    from torch import nn

    from ks_lottery.checkpoint.patch import RowPatch, Side
    from ks_lottery.models.load import LoadedModel


@dataclass(frozen=True)
class InstalledRows:
    """The row modules that are installed in a model.

    Parameters
    ----------
    side
        ``input``, ``output`` or ``both``.
    embedding, head
        None where a side has the rows of the base.
    """

    side: Side
    embedding: RowEmbedding | None
    head: RowHead | None

    def named(self) -> dict[str, nn.Parameter]:
        """Return the trained parameters, shape (K, d), by side; both names can have the same parameter."""
        sides = {"input": self.embedding, "output": self.head}
        return {name: module.rows for name, module in sides.items() if module is not None}

    def parameters(self) -> list[nn.Parameter]:
        """Return each trained parameter once."""
        return list({id(rows): rows for rows in self.named().values()}.values())

    @property
    def rows(self) -> nn.Parameter:
        """The parameter that a patch's ``values`` come from."""
        return self.parameters()[0]

    def patch_values(self) -> dict[str, Any]:
        """Return the arguments ``side``, ``values`` and ``output_values`` of a `RowPatch`, copied to the CPU."""
        copies = [rows.detach().to("cpu", torch.float32, copy=True) for rows in self.parameters()]
        return {"side": self.side, "values": copies[0], "output_values": copies[1] if len(copies) > 1 else None}


def is_tied(model: nn.Module) -> bool:
    """Say whether a model's head is its input embedding: one parameter on both sides."""
    return output_embedding(model).weight is input_embedding(model).weight


def base_values(loaded: LoadedModel, ids: npt.NDArray[np.int64], side: Side) -> dict[str, torch.Tensor | None]:
    """Return ``values`` and ``output_values`` of the base for rows `ids`, from which training starts.

    They are the stored values, which can be more exact than those of the loaded body.
    """
    rows = loaded.checkpoint.rows
    if side == "both" and not is_tied(loaded.lm):
        return {"values": rows(ids), "output_values": rows(ids, side="output")}
    return {"values": rows(ids, side="output" if side == "output" else "input"), "output_values": None}


@contextmanager
def installed_rows(
    model: nn.Module,
    ids: npt.NDArray[np.int64],
    values: torch.Tensor,
    side: Side = "input",
    output_values: torch.Tensor | None = None,
    count: int | None = None,
) -> Generator[InstalledRows]:
    """Replace rows of `model` inside a block; afterwards the model is as it was.

    ``input``: a tied head keeps the base values. ``output``: a tied input embedding does. ``both``: a tied model has one
    parameter on both sides, which gets the gradient of both, and any other has two.

    Parameters
    ----------
    ids
        Rows, shape (K,), ascending.
    values
        Their values, shape (K, d): of the input side, but of the output side for ``output``.
    output_values
        Values of the output side for ``both`` on a model that is not tied; else None.
    count
        Rows of both sides, where new tokens have some beyond the model's V; the config says so inside the block. On a side
        whose rows are not replaced such a row is the mean of its rows. None (the default) for V.

    Raises
    ------
    TypeError
        When the row modules do not support the model's embedding or head.
    ValueError
        When `output_values` do not fit the side and the model.
    """
    apart = side == "both" and not is_tied(model)
    if (output_values is not None) != apart:
        raise ValueError(
            "output_values belong to side both of a model whose embeddings are not tied, and to nothing else"
        )
    lm: Any = model
    embedding = None if side == "output" else RowEmbedding(input_embedding(model), ids, values, count)
    head: RowHead | None = None
    if side != "input":
        # On both sides of a tied model: the same parameter.
        start = values if embedding is None else embedding.rows if output_values is None else output_values
        head = RowHead(output_embedding(model), ids, start, count)
    inputs, outputs = embedding, head
    grows = count is not None and count > input_embedding(model).num_embeddings
    if grows:  # a side whose rows stay as they are has rows for new tokens too
        inputs = inputs or RowEmbedding(input_embedding(model), ids[:0], values[:0], count).requires_grad_(
            requires_grad=False
        )
        outputs = outputs or RowHead(output_embedding(model), ids[:0], values[:0], count).requires_grad_(
            requires_grad=False
        )
    before = lm.get_input_embeddings(), lm.get_output_embeddings() if outputs is not None else None
    config = lm.config.get_text_config()
    rows = config.vocab_size
    try:
        if inputs is not None:
            lm.set_input_embeddings(inputs)
        if outputs is not None:
            lm.set_output_embeddings(outputs)
        if grows:
            config.vocab_size = count
        yield InstalledRows(side, embedding, head)
    finally:
        config.vocab_size = rows
        if inputs is not None:
            lm.set_input_embeddings(before[0])
        if outputs is not None:
            lm.set_output_embeddings(before[1])


@contextmanager
def installed_patch(model: nn.Module, patch: RowPatch) -> Generator[InstalledRows]:
    """Replace the rows of a patch inside a block, on its side."""
    count = None if patch.added is None else patch.added.rows
    with installed_rows(model, patch.ids, patch.values, patch.side, patch.output_values, count) as rows:
        yield rows


def check_side(model: nn.Module, side: Side, name: str) -> None:
    """Refuse a model whose rows of a side cannot be replaced; one forward of two tokens shows which modules it calls.

    Raises
    ------
    UserError
        When an embedding or a head is of another kind, its matrix is read without a call of the module, or a position depends
        on later ones.
    """
    try:
        parts: dict[str, nn.Module] = {}
        if side != "output":
            input_embedding(model)
            parts["input embedding"] = model.get_input_embeddings()  # type: ignore[operator]
        if side != "input":
            _check_head(model)
            parts["output embedding"] = model.get_output_embeddings()  # type: ignore[operator]
        _probe(model, parts)
    except TypeError as error:
        raise UserError(f"{name} cannot be tuned on side {side}: {error}") from error


def _check_head(model: nn.Module) -> None:
    head, rows = output_embedding(model), input_embedding(model).num_embeddings
    if head.weight.shape[0] != rows:
        raise TypeError(f"its output embedding has {head.weight.shape[0]:,} rows and its input embedding {rows:,}")


def _probe(model: Any, parts: dict[str, nn.Module]) -> None:
    calls = dict.fromkeys(parts, 0)

    def count(part: str) -> Any:
        def hook(*_: Any) -> None:
            calls[part] += 1

        return hook

    device = input_embedding(model).weight.device
    tokens = torch.tensor([[1, 2], [1, 3]], device=device)
    handles = [module.register_forward_hook(count(part)) for part, module in parts.items()]
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), in_pieces(model.get_output_embeddings()):
            logits = model(input_ids=tokens, attention_mask=torch.ones_like(tokens), use_cache=False).logits.float()
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    for part, number in calls.items():
        if number == 0:
            raise TypeError(f"it reads the matrix of its {part} without calling it, so that new rows would not be seen")
    if not bool(torch.isfinite(logits).all()):
        raise TypeError(
            "its logits are NaN or infinite, since a weight is or float16 is too narrow: get the model again"
        )
    if not torch.allclose(logits[0, 0], logits[1, 0], rtol=1e-2, atol=1e-2 * float(logits[:, 0].abs().max())):
        raise TypeError("it is no causal language model: what it says at a position depends on later ones")
