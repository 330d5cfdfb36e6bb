"""What every export begins and ends with: base and patch opened and checked, the folder, and the terms of the base."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ks_lottery.checkpoint.memory import MemoryCheckpoint
from ks_lottery.checkpoint.patch import RowPatch
from ks_lottery.corpus.numbered_tokens import numbered_tokens
from ks_lottery.errors import UserError
from ks_lottery.models.adapter_form import matrices
from ks_lottery.models.load import load_tokenizer, open_checkpoint
from ks_lottery.models.new_tokens import with_new_tokens
from ks_lottery.models.products import PROMPT_SETTINGS, SavedProduct
from ks_lottery.models.prompt_template import CHAT_TEMPLATE, NO_CHAT_TEMPLATE, prompt_chat_template
from ks_lottery.models.quiet import quiet
from ks_lottery.models.row_scale import rate_sentence
from ks_lottery.store.embedded_models import terms_of, terms_text
from ks_lottery.store.manifest import digest_json, manifest
from ks_lottery.store.work_folder import WorkFolder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from ks_lottery.checkpoint.reader import Checkpoint
    from ks_lottery.models.load import LoadedModel

    Base = str | Path | Checkpoint | LoadedModel


def skeleton(checkpoint: Checkpoint, patch: RowPatch | None = None) -> PreTrainedModel:
    """Build the model without its weights, to learn the names of its modules; with the rows that a patch adds."""
    from transformers import AutoConfig, AutoModelForCausalLM

    with quiet(), torch.device("meta"):
        if isinstance(checkpoint, MemoryCheckpoint):
            config: Any = type(checkpoint.model.config).from_dict(checkpoint.config)
        else:
            config = AutoConfig.from_pretrained(str(checkpoint.folder), local_files_only=True)
        if patch is not None and patch.added is not None:
            config.get_text_config().vocab_size = patch.added.rows_over(checkpoint.vocabulary)
        return AutoModelForCausalLM.from_config(config)


def is_tied(checkpoint: Checkpoint) -> bool:
    """Say whether the output head of a checkpoint is its input embedding.

    As in transformers: the config ties them, and no head with other values is stored.
    """
    return ties(skeleton(checkpoint), checkpoint)


def ties(model: PreTrainedModel, checkpoint: Checkpoint) -> bool:
    """Say the same of a checkpoint whose model without weights is there."""
    if not model.config.get_text_config().tie_word_embeddings:
        return False
    rows = range(0, checkpoint.vocabulary, _ROWS)
    blocks = (
        [checkpoint.block(t, i, min(i + _ROWS, checkpoint.vocabulary)) for i in rows] for t in matrices(checkpoint)
    )
    return all(torch.equal(a, b) for a, b in zip(*blocks, strict=True))


_ROWS = 1 << 14


def check_fits(checkpoint: Checkpoint, patch: RowPatch, *, tied: bool, force: bool) -> None:
    """Refuse a patch of another base, or one whose values do not fit a tied base, or one that is not; or one without rows.

    Raises
    ------
    UserError
        When they do not fit, or the patch changes nothing: then with a learning rate that finds tickets.
    """
    if len(patch) == 0:
        raise UserError(f"the patch changes no row: there is nothing to export. {rate_sentence(checkpoint)}")
    patch.check_base(checkpoint, force=force)
    if patch.side == "both" and tied != (patch.output_values is None):
        how = "one set of values for both sides" if tied else "a set of values for each side"
        raise UserError(
            f"the patch does not fit {checkpoint.name}, whose embeddings need {how}: give the base it was made on"
        )


def check_peft_ties(model: PreTrainedModel, checkpoint: Checkpoint, *, tied: bool) -> None:
    """Refuse a base of two embeddings whose config ties them: so would PEFT.

    Raises
    ------
    UserError
        When it is such a base.
    """
    if not tied and model.config.get_text_config().tie_word_embeddings:
        raise UserError(
            f"{checkpoint.name} stores two embeddings, but its config ties them, and so would PEFT: set tie_word_embeddings to "
            "false in its config.json, or export it merged"
        )


def opened(checkpoint: Base, patch: RowPatch | str | Path, folder: str | Path) -> tuple[Checkpoint, RowPatch, Path]:
    """Return the base, the patch and the folder that a user named."""
    return open_checkpoint(checkpoint), patch_of(patch), Path(folder).expanduser()


def patch_of(patch: RowPatch | str | Path) -> RowPatch:
    """Return the patch that a user named.

    Raises
    ------
    UserError
        When it is something else, such as an adapter.
    """
    if isinstance(patch, RowPatch):
        return patch
    product = SavedProduct.open(patch)
    if product.kind == "adapter":
        raise UserError(f"{patch} is a PEFT adapter already: use it as it is, or merge it (merged)")
    if product.patch is None:
        raise UserError(f"{patch} is a whole model already: use it as it is")
    return product.patch


def work_of(
    checkpoint: Checkpoint, patch: RowPatch | SavedProduct, folder: Path, to: str, **more: Any
) -> tuple[WorkFolder, dict[str, Any]]:
    """Return the folder of an export, and the manifest by which the same export is known; `more` are settings of the format.

    The manifest has the digest of the settings of the training, and those of them that say how sentences are shown.
    """
    kind = "patch" if isinstance(patch, RowPatch) else patch.kind
    made_from = {"base": checkpoint.describe(), kind: patch.content}
    shown = {name: patch.settings[name] for name in ("method", *PROMPT_SETTINGS) if name in patch.settings}
    settings = {"to": to, "patch": digest_json(dict(patch.settings)), "training": shown, **more}
    return WorkFolder(folder), manifest("export", made_from=made_from, settings=settings)


def write_tokenizer(checkpoint: Checkpoint, patch: RowPatch, folder: Path) -> None:
    """Write the tokenizer of a patch that adds tokens or has a prompt of its own, with the chat template of that."""
    template, _ = chat_template_of(checkpoint, patch)
    if patch.added is None and template is None:
        return
    tokenizer: Any = load_tokenizer(with_new_tokens(checkpoint, patch))
    if template is not None:
        tokenizer.chat_template = template
    with quiet():
        tokenizer.save_pretrained(str(folder))


def notes_on_tokens(checkpoint: Checkpoint, patch: RowPatch) -> list[str]:
    """Return what the user of an export should know of its new tokens and of its chat template."""
    _, said = chat_template_of(checkpoint, patch)
    return [*([] if patch.added is None else [f"{patch.added.sentence()}."]), *([] if said is None else [said])]


def chat_template_of(checkpoint: Checkpoint, patch: RowPatch) -> tuple[str | None, str | None]:
    """Return the chat template that puts the tokens of a patch's own prompt around a message, and a sentence on it.

    Both are None for a patch without a prompt of its own; the template is None where its tokens cannot be written as text.
    """
    if patch.prompt is None:
        return None, None
    if numbered_tokens(patch.prompt):
        return None, NO_CHAT_TEMPLATE
    tokenizer = load_tokenizer(with_new_tokens(checkpoint, patch))
    return prompt_chat_template(patch.prompt, tokenizer), CHAT_TEMPLATE


def write_terms(checkpoint: Checkpoint, folder: Path) -> None:
    """Write the notice and the terms that have to accompany what is made from a model with terms of use."""
    origin = terms_of(checkpoint.folder)
    if origin is None or origin.terms is None:
        return
    changed = "The files in this folder were made or modified with ks-lottery."
    (folder / "NOTICE").write_text(f"{origin.terms.notice}\n{changed}\n", encoding="utf-8")
    text = terms_text(origin)
    shutil.copyfile(text, folder / text.name)
