"""Translates sentences with the small model of a finished run.

Must never use other settings than those the run was made with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ks_lottery.checkpoint.patch import PATCH_FILE, RowPatch
from ks_lottery.corpus.forms import PromptForm
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


@dataclass(frozen=True)
class Answer:
    """A sentence with its translation by the small model, and by the original model where that was asked for."""

    source: str
    small: str
    original: str | None = None


def translate_with_run(
    folder: Path, sentences: Sequence[str], *, method: str = "partial", compare: bool = False
) -> list[Answer]:
    """Translate sentences with the patch of a method, and with `compare` with the original model too.

    Raises
    ------
    UserError
        When the folder is no run, the run has no such patch yet, or there is nothing to translate.
    """
    content = RunFolder(folder).config()
    if not sentences:
        raise UserError("there is nothing to translate: give a sentence, or lines on standard input")
    if not (folder / method / PATCH_FILE).is_file():
        made = sorted(path.parent.name for path in folder.glob(f"*/{PATCH_FILE}"))
        raise UserError(f"{folder} has no patch {method}; it has {', '.join(made) or 'none yet: let the run finish'}")
    patch = RowPatch.open(folder / method)
    checkpoint = open_checkpoint(content["model"]["name"])
    patch.check_base(checkpoint)
    loaded = load_model(
        checkpoint,
        dtype=content["model"]["dtype"],
        device=content["model"]["device"],
        trust_remote_code=content["model"]["trust_remote_code"],
    )
    text = content["text"]
    report = read_json(folder / "text" / "report.json")
    order = str(report.get("instruction") or instruction(text["source_language"], text["target_language"]))
    form = PromptForm(loaded.tokenizer, text["template"])
    prompts = form.prompts([order] * len(sentences), sentences)
    settings: dict[str, Any] = {
        key: int(content["evaluate"][key]) for key in ("num_beams", "max_new_tokens", "batch_size")
    }
    before = translate(loaded.lm, form, prompts, **settings) if compare else []
    with installed_patch(loaded.lm, patch):
        after = translate(loaded.lm, form, prompts, **settings)
    return [
        Answer(sentence, after[number], before[number] if compare else None)
        for number, sentence in enumerate(sentences)
    ]
