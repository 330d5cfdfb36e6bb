"""The public call `applied`: a row patch on a model that is in memory, inside a block or for good."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ks_lottery.checkpoint.memory import MemoryCheckpoint
from ks_lottery.checkpoint.patch import RowPatch
from ks_lottery.errors import UserError
from ks_lottery.models.head import output_embedding
from ks_lottery.models.load import LoadedModel
from ks_lottery.models.new_tokens import with_new_tokens
from ks_lottery.models.rows import input_embedding, mean_of_rows
from ks_lottery.models.sides import installed_patch, is_tied

if TYPE_CHECKING:
    from collections.abc import Generator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from transformers import PreTrainedModel


def applied(
    patch: RowPatch | str | Path, model: LoadedModel | PreTrainedModel, *, permanently: bool = False
) -> AbstractContextManager[PreTrainedModel]:
    """Put the rows of a patch on a model inside a ``with`` block; afterwards the model is as it was.

    A loaded model's tokenizer has the tokens that the patch adds too; of a model of transformers, whose tokenizer is not known
    here, only the rows change. No matrix is copied: the rows lie beside it. Both ways the model answers the same, in any float
    type.

    Parameters
    ----------
    patch
        The patch, or its folder.
    model
        A loaded model, whose weights must be the patch's base; or a model of transformers, of which only the shapes are
        checked: its weights are not read.
    permanently
        Write the rows into the weights at once, and leave them there; False by default. No block is needed. A model whose head
        is its input embedding is untied where the patch changes one side only: the head gets a matrix of its own, V x d, and
        the config says so, so that ``save_pretrained`` writes both. A loaded model then has the model in memory as its
        checkpoint, with a fingerprint of its own. Both matrices get rows for the tokens that the patch adds.

    Returns
    -------
    context manager
        It gives the model of transformers, with the rows on it.

    Raises
    ------
    UserError
        When the patch is missing or damaged, belongs to another base, or does not fit the model.

    Examples
    --------
    >>> import ks_lottery
    >>> # with ks_lottery.applied("runs/demo/partial", model) as patched: patched.generate(...)
    """
    opened = patch if isinstance(patch, RowPatch) else RowPatch.open(patch)
    lm: Any = model.lm if isinstance(model, LoadedModel) else model
    if isinstance(model, LoadedModel):
        opened.check_base(model.checkpoint)
    _check_fits(lm, opened)
    if not permanently:
        return _inside(lm, opened, model)
    longer = with_new_tokens(model, opened) if isinstance(model, LoadedModel) else None
    _write(lm, opened)
    if isinstance(model, LoadedModel):
        # What the weights came from they no longer are.
        object.__setattr__(model, "tokenizer", (longer or model).tokenizer)
        checkpoint = MemoryCheckpoint.of(lm, model.tokenizer, f"{model.checkpoint.name} with {len(opened)} new rows")
        object.__setattr__(model, "checkpoint", checkpoint)
    return nullcontext(lm)


@contextmanager
def _inside(lm: Any, patch: RowPatch, model: Any) -> Generator[PreTrainedModel]:
    loaded = model if isinstance(model, LoadedModel) else None
    kept = None if loaded is None else (loaded.checkpoint, loaded.tokenizer)
    modules: list[Any] = [lm.get_input_embeddings(), lm.get_output_embeddings()]
    trained = [p for module in modules if module is not None for p in module.parameters() if p.requires_grad]
    try:
        if loaded is not None:
            longer = with_new_tokens(loaded, patch)
            _set(loaded, longer.checkpoint, longer.tokenizer)
        with installed_patch(lm, patch):
            yield lm
    finally:
        if loaded is not None and kept is not None:
            _set(loaded, *kept)
        for parameter in trained:  # row modules freeze what they replace
            parameter.requires_grad_(requires_grad=True)


def _set(loaded: LoadedModel, checkpoint: Any, tokenizer: Any) -> None:
    object.__setattr__(loaded, "checkpoint", checkpoint)
    object.__setattr__(loaded, "tokenizer", tokenizer)


def _check_fits(lm: Any, patch: RowPatch) -> None:
    """Refuse rows that the model does not have, or matrices that the row modules do not know."""
    try:
        sides: dict[str, Any] = {"input": input_embedding(lm)}
        if patch.side != "input":
            sides["output"] = output_embedding(lm)
        tied = patch.side == "both" and is_tied(lm)
    except (AttributeError, TypeError) as error:
        raise UserError(f"the patch cannot be put on a {type(lm).__name__}: {error}") from error
    if patch.side == "both" and tied != (patch.output_values is None):
        how = "one set of values" if tied else "a set of values for each side"
        raise UserError(
            f"the patch does not fit the {type(lm).__name__}, whose embeddings need {how}: give its own base"
        )
    for side, module in sides.items():
        count, width = module.weight.shape
        values = patch.values_of("output" if side == "output" else "input")
        last = int(patch.ids.max(initial=-1))
        count = count if patch.added is None else patch.added.rows_over(count)
        if values is not None and (values.shape[1] != width or last >= count):
            raise UserError(
                f"the patch changes rows of width {values.shape[1]:,} up to row {last:,}, which do not fit the "
                f"{count:,} x {width:,} of the {type(lm).__name__}: give the model that the patch belongs to"
            )


@torch.no_grad()
def _write(lm: Any, patch: RowPatch) -> None:
    """Write the rows into the weights; a tied model whose sides get different rows is untied."""
    if patch.added is not None and patch.added.grows:
        _grow(lm, patch.added.rows)
    embedding = input_embedding(lm)
    if patch.side != "both" and len(patch) and lm.get_output_embeddings() is not None and is_tied(lm):
        _untie(lm)
    for side in ("input", "output"):
        values = patch.values_of("output" if side == "output" else "input")
        if values is not None:
            weight = embedding.weight if side == "input" else output_embedding(lm).weight
            weight[torch.from_numpy(patch.ids).to(weight.device)] = values.to(weight)


@torch.no_grad()
def _grow(lm: Any, count: int) -> None:
    """Give both matrices rows for new tokens: on each side the mean of its rows."""
    embedding = input_embedding(lm)
    head: Any = None if lm.get_output_embeddings() is None else output_embedding(lm)
    apart = head is not None and head.weight is not embedding.weight
    kept: list[Any] = [embedding, *([head] if apart else [])]
    means, before = [mean_of_rows(module.weight) for module in kept], embedding.num_embeddings
    bias = None if head is None or head.bias is None else head.bias.mean()
    trained = [module.weight.requires_grad for module in kept]
    lm.resize_token_embeddings(count, mean_resizing=False)
    longer: list[Any] = [input_embedding(lm), *([output_embedding(lm)] if apart else [])]
    for module, mean, grad in zip(longer, means, trained, strict=True):
        module.weight[before:] = mean.to(module.weight)
        module.weight.requires_grad_(grad)
    if bias is not None:
        output_embedding(lm).bias[before:] = bias


def _untie(lm: Any) -> None:
    """Give the head a matrix of its own, with the same values."""
    head = output_embedding(lm)
    head.weight = nn.Parameter(head.weight.detach().clone(), requires_grad=head.weight.requires_grad)
    for config in (lm.config, lm.config.get_text_config()):
        config.tie_word_embeddings = False
    name = next(name for name, module in lm.named_modules() if module is head)
    keys = getattr(lm, "all_tied_weights_keys", None)
    if keys:
        keys.pop(f"{name}.weight", None)
