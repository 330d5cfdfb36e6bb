"""Translates sentences with the small model of a run, with the settings of the run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ks_lottery.checkpoint.patch import PATCH_FILE, RowPatch
from ks_lottery.config.job_commands import TranslateSettings
from ks_lottery.corpus.lines import is_encodable
from ks_lottery.corpus.mixed_templates import is_mixed, mixed_templates
from ks_lottery.corpus.numbered_tokens import check_numbered
from ks_lottery.corpus.plain_text import PLAIN
from ks_lottery.corpus.prompt_form import PromptForm
from ks_lottery.corpus.prompts import instruction
from ks_lottery.corpus.readers import LONGEST_SENTENCE
from ks_lottery.errors import UserError, shortened
from ks_lottery.evaluation.translate import translate
from ks_lottery.models.load import load_model, open_checkpoint
from ks_lottery.models.sides import installed_patch
from ks_lottery.report.forms import counted
from ks_lottery.store.files import read_json
from ks_lottery.store.run_folder import RunFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


MOST_NAMED = 10
"""Sentences that a warning names by their numbers."""


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
    template: str | None = None,
    warn: Callable[[str], None] | None = None,
) -> list[Answer]:
    """Translate sentences with the patch of a method, and with `compare` with the original model too.

    Parameters
    ----------
    template
        Prompt, one of `ks_lottery.config.choices.TEMPLATES` or a text of your own, but not ``mixed``. None (the default) for
        the patch's own if it has one, else that of the run.
    warn
        Called with one sentence for each model that has translations without an end: those that were cut off.

    Returns
    -------
    list of Answer
        One a sentence, in their order; the translation of a blank sentence is empty.

    Raises
    ------
    UserError
        When the folder is no run, the run has no such patch yet, there is nothing to translate, a sentence is not UTF-8 or
        does not fit into the context of the model, or the template is not known or is ``mixed``.
    """
    run = RunFolder(folder)
    config = run.config()
    if not sentences:
        raise UserError("there is nothing to translate: give a sentence, or lines on standard input")
    _check_sentences(sentences)
    if config["text"]["format"] == PLAIN:
        raise UserError(
            f"{folder} was made with text of one language, and learned nothing to translate with: give another run"
        )
    usual = config["text"]["template"] if template is None else template
    if is_mixed(usual):
        raise UserError(
            f"{'the run was made with' if template is None else '`template` is'} a mix of prompts, but translations have one: "
            f"name one of them by `template`, such as {shortened(mixed_templates(usual)[0])}"
        )
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
    languages = (text["source_language"], text["target_language"])
    order = str(read_json(run.text_report).get("instruction") or instruction(*languages))
    places = [place for place, sentence in enumerate(sentences) if sentence.strip()]
    asked = [order] * len(places), [sentences[place] for place in places]
    usual_form = PromptForm(loaded.tokenizer, usual, languages)
    own = patch.prompt if template is None else None
    form = usual_form if own is None else PromptForm(loaded.tokenizer, own)
    check_numbered(form.template, checkpoint.vocabulary)
    prompts = form.prompts(*asked)
    usual_prompts = usual_form.prompts(*asked) if compare else []
    _check_lengths(
        [*prompts, *usual_prompts], [*places, *places][: len(prompts) + len(usual_prompts)], checkpoint.context
    )
    settings: dict[str, Any] = {
        name: int(config["evaluate"][name]) for name in ("num_beams", "max_new_tokens", "batch_size")
    }

    def translated(name: str, form: PromptForm, prompts: Sequence[Sequence[int]]) -> dict[int, str]:
        outputs = translate(loaded.lm, form, prompts, **settings)
        cut = [place + 1 for place, output in zip(places, outputs, strict=True) if not output.ended]
        if cut and warn is not None:
            warn(_cut_off(name, cut, settings["max_new_tokens"]))
        return {place: output.sentence for place, output in zip(places, outputs, strict=True)}

    originals = translated("the original model", usual_form, usual_prompts) if compare else {}
    with installed_patch(loaded.lm, patch):
        translations = translated(method, form, prompts)
    return [
        Answer(source=source, small=translations.get(place, ""), original=originals.get(place, "") if compare else None)
        for place, source in enumerate(sentences)
    ]


def _cut_off(name: str, numbers: Sequence[int], limit: int) -> str:
    which = f"{counted(len(numbers), 'translation')} of {name}"
    shown = ", ".join(map(str, numbers[:MOST_NAMED])) + (", ..." if len(numbers) > MOST_NAMED else "")
    return (
        f"warning: {which} cut off at {counted(limit, 'token')}, the run's evaluate.max_new_tokens: "
        f"sentence{'' if len(numbers) == 1 else 's'} {shown}"
    )


def _check_sentences(sentences: Sequence[str]) -> None:
    for number, sentence in enumerate(sentences, start=1):
        if not is_encodable(sentence):
            raise UserError(f"sentence {number} is not UTF-8 text: convert it to UTF-8")
        if len(sentence) > LONGEST_SENTENCE:
            raise UserError(
                f"sentence {number} has {len(sentence):,} characters, more than the {LONGEST_SENTENCE:,} that are "
                "translated: split it"
            )


def _check_lengths(prompts: Sequence[Sequence[int]], places: Sequence[int], context: int | None) -> None:
    for place, prompt in zip(places, prompts, strict=True):
        if context is not None and len(prompt) >= context:
            raise UserError(
                f"sentence {place + 1} has {len(prompt):,} tokens with its prompt, and the context of the model has "
                f"{context:,}: split it"
            )
