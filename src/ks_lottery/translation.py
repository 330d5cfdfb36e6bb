"""Translates sentences with the small model of a finished run.

Must never use other settings than those the run was made with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ks_lottery.checkpoint.patch import PATCH_FILE, RowPatch
from ks_lottery.corpus.prompts import instruction, render_prompt
from ks_lottery.errors import UserError
from ks_lottery.evaluation.translate import translate
from ks_lottery.models.load import load_model, open_checkpoint
from ks_lottery.models.sides import installed_patch
from ks_lottery.run_folder import RunFolder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


def translate_with_run(
    folder: Path, sentences: Sequence[str], *, method: str = "partial", compare: bool = False
) -> Iterator[str]:
    """Yield what to print for each sentence: the translation, or with `compare` source, original and small model.

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
    order = instruction(content["text"]["source_language"], content["text"]["target_language"])
    prompts = [render_prompt(content["text"]["template"], order, sentence) for sentence in sentences]
    settings: dict[str, Any] = {
        key: int(content["evaluate"][key]) for key in ("num_beams", "max_new_tokens", "batch_size")
    }
    before = translate(loaded.lm, loaded.tokenizer, prompts, **settings) if compare else []
    with installed_patch(loaded.lm, patch):
        after = translate(loaded.lm, loaded.tokenizer, prompts, **settings)
    for number, answer in enumerate(after):
        if compare:
            yield f"source:   {sentences[number]}\noriginal: {before[number]}\n{method + ':':<9} {answer}"
        else:
            yield answer
