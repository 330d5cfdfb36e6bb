"""Translates sentences with the small model of a run, with the settings of the run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ks_lottery.checkpoint.patch import PATCH_FILE, RowPatch
from ks_lottery.config.job_commands import TranslateSettings
from ks_lottery.corpus.prompt_form import PromptForm
from ks_lottery.corpus.prompts import instruction
from ks_lottery.errors import UserError
from ks_lottery.evaluation.translate import translate
from ks_lottery.models.load import load_model, open_checkpoint
from ks_lottery.models.sides import installed_patch
from ks_lottery.store.files import read_json
from ks_lottery.store.run_folder import RunFolder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A sentence with its translation by the small model, and by the original model where that was asked for."""

    source: str
    small: str
    original: str | None = None


def translate_with_run(
    folder: Path,
    sentences: Sequence[str],
    *,
    method: str = TranslateSettings.method,
    compare: bool = TranslateSettings.compare,
) -> list[Answer]:
    """Translate sentences with the patch of a method, and with `compare` with the original model too.

    Raises
    ------
    UserError
        When the folder is no run, the run has no such patch yet, or there is nothing to translate.
    """
    run = RunFolder(folder)
    config = run.config()
    if not sentences:
        raise UserError("there is nothing to translate: give a sentence, or lines on standard input")
    if not (run.method(method) / PATCH_FILE).is_file():
        methods = sorted(path.parent.name for path in folder.glob(f"*/{PATCH_FILE}"))
        raise UserError(
            f"{folder} has no patch {method}; it has {', '.join(methods) or 'none yet: let the run finish'}"
        )
    patch = RowPatch.open(run.method(method))
    model, text = config["model"], config["text"]
    checkpoint = open_checkpoint(model["name"])
    patch.check_base(checkpoint)
    loaded = load_model(
        checkpoint, dtype=model["dtype"], device=model["device"], trust_remote_code=model["trust_remote_code"]
    )
    usual = read_json(run.text_report).get("instruction")
    order = str(usual or instruction(text["source_language"], text["target_language"]))
    form = PromptForm(loaded.tokenizer, text["template"])
    prompts = form.prompts([order] * len(sentences), sentences)
    settings: dict[str, Any] = {
        name: int(config["evaluate"][name]) for name in ("num_beams", "max_new_tokens", "batch_size")
    }
    originals: list[str | None] = [None] * len(sentences)
    if compare:
        originals[:] = translate(loaded.lm, form, prompts, **settings)
    with installed_patch(loaded.lm, patch):
        translations = translate(loaded.lm, form, prompts, **settings)
    return [
        Answer(source=source, small=small, original=original)
        for source, small, original in zip(sentences, translations, originals, strict=True)
    ]
