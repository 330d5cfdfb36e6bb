"""Writes a patch as an adapter that PEFT loads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ks_lottery.config.job_commands import ExportSettings
from ks_lottery.config.values import checks_names
from ks_lottery.models.adapter_form import adapter_form, filled, in_order, peft_config
from ks_lottery.models.export_parts import (
    check_fits,
    check_peft_ties,
    is_tied,
    notes_on_tokens,
    opened,
    skeleton,
    ties,
    work_of,
    write_terms,
    write_tokenizer,
)
from ks_lottery.models.merged import to_merged
from ks_lottery.models.model_card import card
from ks_lottery.models.quiet import quiet

if TYPE_CHECKING:
    from pathlib import Path

    from ks_lottery.checkpoint.patch import RowPatch
    from ks_lottery.models.export_parts import Base

__all__ = ["is_tied", "to_merged", "to_peft"]


@checks_names
def to_peft(
    checkpoint: Base, patch: RowPatch | str | Path, folder: str | Path, *, force: bool = ExportSettings.force
) -> Path:
    """Write an adapter for `peft.PeftModel.from_pretrained`.

    The adapter has PEFT's trainable tokens, on the module of each side that the patch changes. On a tied model a patch of one
    side would change the other side too. There a LoRA of rank 1, all zero, has trainable tokens for both sides with different
    ids, which PEFT keeps apart: the patch's tokens, and on the other side one token with its base value. Where trainable
    tokens cannot express the patch (a head with a bias; every row of one side of a tied model), the module is saved whole,
    V x d values.

    For a patch that adds tokens the folder has the tokenizer. Where the matrix grows, PEFT needs a base that was resized
    (``resize_token_embeddings``), as the README says; the adapter has the new rows of both sides.

    Parameters
    ----------
    checkpoint
        The base: a folder, GGUF file, hub id, an opened checkpoint, or a loaded model.
    patch
        The patch, or its folder.
    folder
        Where to write; new, empty, or the same export, which is then left as it is.
    force
        Accept a patch of another base; off by default.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    UserError
        When the patch is empty or belongs to another base, or `folder` holds something else.
    """
    from peft import get_peft_model, get_peft_model_state_dict
    from safetensors.torch import save_file

    checkpoint, patch, folder = opened(checkpoint, patch, folder)
    model = skeleton(checkpoint, patch)
    tied = ties(model, checkpoint)
    check_fits(checkpoint, patch, tied=tied, force=force)
    check_peft_ties(model, checkpoint, tied=tied)
    form = adapter_form(checkpoint, patch, model, tied=tied)
    with quiet():
        config = peft_config(model, form, checkpoint.location)
        state = get_peft_model_state_dict(
            get_peft_model(model, config, low_cpu_mem_usage=True), save_embedding_layers=False
        )
    tensors = {name: filled(name, tensor, form) for name, tensor in state.items()}
    config.inference_mode = True
    work, about = work_of(checkpoint, patch, folder, "peft")
    if work.is_done(about):
        return folder
    notes = notes_on_tokens(checkpoint, patch)
    with work.publish({**about, **({"notes": notes} if notes else {})}) as temporary:
        save_file(tensors, temporary / "adapter_model.safetensors", metadata={"format": "pt"})
        with quiet():
            in_order(config).save_pretrained(str(temporary))
        write_tokenizer(checkpoint, patch, temporary)
        (temporary / "README.md").write_text(card(checkpoint, patch, "peft", notes=notes), encoding="utf-8")
        write_terms(checkpoint, temporary)
    return folder
