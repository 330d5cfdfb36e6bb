"""Translates sentences with a model, or with what a run, `tune` or `export` made of one, in the prompt of its training."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ks_lottery.checkpoint.grown import GrownCheckpoint
from ks_lottery.config.groups import PromptOptions
from ks_lottery.config.job_commands import TranslateSettings
from ks_lottery.corpus.lines import is_encodable
from ks_lottery.corpus.mixed_templates import is_mixed, mixed_templates
from ks_lottery.corpus.numbered_tokens import check_numbered
from ks_lottery.corpus.prompt_form import PromptForm
from ks_lottery.corpus.prompts import instruction as usual_instruction
from ks_lottery.corpus.readers import LONGEST_SENTENCE
from ks_lottery.errors import UserError, shortened
from ks_lottery.evaluation.translate import translate
from ks_lottery.models.equipped import equipped
from ks_lottery.models.load import load_model, load_tokenizer, open_checkpoint
from ks_lottery.recipes.translator import Translator, open_translator
from ks_lottery.report.forms import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ks_lottery.models.load import LoadedModel


MOST_NAMED = 10
"""Sentences that a warning names by their numbers."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A sentence with its translation by the tuned model, what that is called, and by the original model if asked for."""

    source: str
    name: str
    small: str
    original: str | None = None


def translate_sentences(
    model: str | Path,
    sentences: Sequence[str],
    *,
    patch: str | Path | None = None,
    adapter: str | Path | None = None,
    method: str = TranslateSettings.method,
    compare: bool = TranslateSettings.compare,
    template: str | None = TranslateSettings.template,
    source_language: str | None = TranslateSettings.source_language,
    target_language: str | None = TranslateSettings.target_language,
    instruction: str | None = TranslateSettings.instruction,
    num_beams: int | None = TranslateSettings.num_beams,
    max_new_tokens: int | None = TranslateSettings.max_new_tokens,
    dtype: str = TranslateSettings.dtype,
    device: str = TranslateSettings.device,
    trust_remote_code: bool = TranslateSettings.trust_remote_code,
    warn: Callable[[str], None] | None = None,
) -> list[Answer]:
    """Translate sentences, and with `compare` with the original model too.

    Parameters
    ----------
    model
        A run folder; a folder that `tune` or `export` wrote, whose base and prompt its manifest names; or a model (folder,
        GGUF file, hub id), which `patch` or `adapter` is put on.
    patch, adapter
        Folder of a row patch, or of a PEFT adapter, of `model`; None for none.
    method
        Method of a run whose rows are used.
    template
        Prompt, one of `ks_lottery.config.choices.TEMPLATES` or a text of your own, but not ``mixed``. None (the default) for
        the patch's own if it has one, else that of the training.
    source_language, target_language, instruction
        In place of those of the training; needed where it is not recorded.
    num_beams, max_new_tokens
        In place of those of the run; 4 and 256 without a run.
    dtype, device, trust_remote_code
        As `load_model` takes them; of a run its own, unless given.
    warn
        Called with one sentence for each model that has translations without an end: those that were cut off.

    Returns
    -------
    list of Answer
        One a sentence, in their order; the translation of a blank sentence is empty.

    Raises
    ------
    UserError
        When the model cannot be opened, the run has no such patch yet, the prompt is not known, there is nothing to
        translate, a sentence is not UTF-8 or does not fit into the context of the model, or the template is not known or is
        ``mixed``.
    """
    if patch is not None and adapter is not None:
        raise UserError("`patch` and `adapter` exclude each other: give one of them")
    if not sentences:
        raise UserError("there is nothing to translate: give a sentence, or lines on standard input")
    _check_sentences(sentences)
    loading = {"dtype": dtype, "device": device, "trust_remote_code": trust_remote_code}
    translator = open_translator(str(model), patch or adapter, method, loading)
    if compare and translator.product is None and translator.original is None:
        raise UserError(
            f"{model} is not tuned, as far as is recorded: there is nothing to compare it with. Leave `compare` out"
        )
    given = {"num_beams": num_beams, "max_new_tokens": max_new_tokens}
    settings: dict[str, Any] = {
        **translator.decoding,
        **{name: value for name, value in given.items() if value is not None},
    }
    limit = translator.limit if max_new_tokens is None else "max_new_tokens"
    usual = _template(template, translator)
    checkpoint = translator.checkpoint
    loaded = load_model(checkpoint, **translator.loading)
    languages, order = _asked(translator, source_language, target_language, instruction)
    places = [place for place, sentence in enumerate(sentences) if sentence.strip()]
    asked = [order] * len(places), [sentences[place] for place in places]

    def form_of(loaded: LoadedModel, own: str | None) -> PromptForm:
        return PromptForm(loaded.tokenizer, usual, languages) if own is None else PromptForm(loaded.tokenizer, own)

    def prompts_of(form: PromptForm) -> Sequence[Sequence[int]]:
        check_numbered(form.template, checkpoint.vocabulary)
        prompts = form.prompts(*asked)
        _check_lengths(prompts, places, checkpoint.context)
        return prompts

    def translated(name: str, generator: Any, form: PromptForm, prompts: Sequence[Sequence[int]]) -> dict[int, str]:
        outputs = translate(generator, form, prompts, **settings)
        cut = [place + 1 for place, output in zip(places, outputs, strict=True) if not output.ended]
        if cut and warn is not None:
            warn(_cut_off(name, cut, settings["max_new_tokens"], limit))
        return {place: output.sentence for place, output in zip(places, outputs, strict=True)}

    form = form_of(loaded, translator.prompt if template is None else None)
    prompts = prompts_of(form)
    originals: dict[int, str] = {}
    if compare:
        before = _original(translator, loaded)
        usual_form = form_of(before, None)
        originals = translated("the original model", before.lm, usual_form, prompts_of(usual_form))
    with nullcontext() if translator.product is None else equipped(loaded, translator.product) as tuned:
        generator = loaded.lm if tuned is None else tuned.generator
        translations = translated(translator.name, generator, form, prompts)
    return [
        Answer(
            source=source,
            name=translator.name,
            small=translations.get(place, ""),
            original=originals.get(place, "") if compare else None,
        )
        for place, source in enumerate(sentences)
    ]


def _template(given: str | None, translator: Translator) -> str:
    """Return the template that is used where there is no prompt of its own."""
    usual = given or translator.template or PromptOptions.template
    if is_mixed(usual):
        trained = "the training was made with" if given is None else "`template` is"
        raise UserError(
            f"{trained} a mix of prompts, but translations have one: name one of them by `template`, such as "
            f"{shortened(mixed_templates(usual)[0])}"
        )
    return usual


def _asked(
    translator: Translator, source: str | None, target: str | None, instruction: str | None
) -> tuple[tuple[str, str], str]:
    """Return the languages, and the instruction of the prompts."""
    known = translator.languages or (None, None)
    languages = (source or known[0], target or known[1])
    if languages[0] is None or languages[1] is None:
        raise UserError(
            f"{translator.checkpoint.name} has no record of its languages: give `source_language` and `target_language`"
        )
    pair = (languages[0], languages[1])
    if instruction is not None:
        return pair, instruction
    of_training = translator.instruction if pair == known else None
    return pair, of_training or usual_instruction(*pair)


def _original(translator: Translator, loaded: LoadedModel) -> LoadedModel:
    """Return the model without what tuning made of it: without the tokens that a patch adds, or another one that is loaded."""
    if translator.original is None:
        checkpoint, trust = loaded.checkpoint, bool(translator.loading.get("trust_remote_code"))
        if not isinstance(checkpoint, GrownCheckpoint):
            return loaded
        tokenizer = load_tokenizer(checkpoint.base, trust_remote_code=trust)
        return replace(loaded, checkpoint=checkpoint.base, tokenizer=tokenizer)
    return load_model(open_checkpoint(translator.original), **translator.loading)


def _cut_off(name: str, numbers: Sequence[int], limit: int, setting: str) -> str:
    which = f"{counted(len(numbers), 'translation')} of {name}"
    shown = ", ".join(map(str, numbers[:MOST_NAMED])) + (", ..." if len(numbers) > MOST_NAMED else "")
    return (
        f"warning: {which} cut off at {counted(limit, 'token')}, {setting}: "
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
