"""The public call `inspect`: a text as a model will see it, token by token, before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ks_lottery.checkpoint.reader import Checkpoint
from ks_lottery.config.groups import CleaningOptions, TextSource
from ks_lottery.config.settings import TextConfig
from ks_lottery.config.train_commands import InspectSettings
from ks_lottery.config.values import checks_names
from ks_lottery.corpus.cleaned import cleaned
from ks_lottery.corpus.column_languages import column_remark
from ks_lottery.corpus.corpus import Corpus
from ks_lottery.corpus.inspection import inspect_corpus
from ks_lottery.corpus.language_identity import is_installed
from ks_lottery.corpus.mixed_templates import resolved_template
from ks_lottery.corpus.prompt_form import PromptForm
from ks_lottery.corpus.source import open_corpus
from ks_lottery.errors import UserError
from ks_lottery.evaluation.inspection_sections import inspection_sections
from ks_lottery.models.load import load_tokenizer
from ks_lottery.models.prefix import common_length
from ks_lottery.models.rows import reachable_rows
from ks_lottery.models.sources import open_unconverted
from ks_lottery.models.vocabulary import token_strings
from ks_lottery.report.notebook import Shown

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ks_lottery.checkpoint.reader import Checkpoint
    from ks_lottery.config.settings import TextSource
    from ks_lottery.corpus.corpus import Corpus
    from ks_lottery.models.load import LoadedModel
    from ks_lottery.report.section import Section


NOT_CHECKED = "The languages of the text are not checked: that needs pip install 'ks-lottery[language]'."
"""What an inspection says without the language identifier."""


@dataclass(frozen=True, repr=False)
class Inspection(Shown):
    """What `inspect` finds, as plain values.

    Parameters
    ----------
    content
        ``text`` (what was read and dropped), ``model``, ``template``, ``end`` (the token that a response ends with),
        ``lengths``, ``shared_prefix`` (the tokens that training computes once a batch, whatever the batch),
        ``shown_prefix`` (those that the prompts of the shown examples share), ``reachable_rows``, ``tokens_per_word`` and
        ``examples``.
    """

    content: Mapping[str, Any]

    def __repr__(self) -> str:
        """Return one line."""
        text, lengths = self.content["text"], self.content["lengths"]
        return (
            f"Inspection({text['origin']}: {text['pairs']:,} {text['unit']}, up to {lengths['total']['max']:,} tokens)"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the content, for JSON."""
        return dict(self.content)

    def sections(self) -> list[Section]:
        """Return the examples token by token, the lengths, and what to know about them."""
        return inspection_sections(self.content)


@checks_names
def inspect(
    text: str | Path | TextSource | Corpus,
    model: str | Path | Checkpoint | LoadedModel = InspectSettings.model,
    *,
    template: str = InspectSettings.template,
    max_tokens: int = InspectSettings.max_tokens,
    examples: int = InspectSettings.examples,
    clean: bool = InspectSettings.clean,
    min_words: int = TextConfig.min_words,
    drop_placeholders: bool = TextConfig.drop_placeholders,
    drop_markup: bool = TextConfig.drop_markup,
) -> Inspection:
    """Show a text as training and translating will see it. The model's weights are not read, only its tokenizer.

    Parameters
    ----------
    text
        A corpus; or a file or a dataset, English to Catalan unless a `TextSource` says otherwise.
    model
        Whose tokenizer: a folder, a GGUF file, a hub id, an opened checkpoint, or a loaded model; by default the demo's.
    template
        One of `ks_lottery.config.choices.TEMPLATES`, or a text of your own with ``{source}`` and, if you like,
        ``{instruction}``.
    max_tokens
        Longest example that training takes, prompt and response together, 8 or more.
    examples
        How many examples to show token by token, the first of the text.
    clean
        Drop what a run drops: short pairs, placeholders, markup, repeated sources.
    min_words, drop_placeholders, drop_markup
        What cleaning drops; see `ks_lottery.keep_useful`.

    Returns
    -------
    Inspection
        What training and translating use, and numbers about it.

    Raises
    ------
    UserError
        When text, template or tokenizer cannot be used, cleaning drops every pair, or a number is out of range.
    """
    if examples < 0:
        raise UserError(f"examples is {examples}, but must be 0 or more")
    if max_tokens < 8:
        raise UserError(f"max_tokens is {max_tokens}, but must be 8 or more")
    read = open_corpus(text)
    options = CleaningOptions(
        clean=clean, min_words=min_words, drop_placeholders=drop_placeholders, drop_markup=drop_markup
    )
    corpus, cleaning = cleaned(read, options)
    checkpoint = open_unconverted(model)
    form = PromptForm(load_tokenizer(checkpoint), resolved_template(template))
    form = replace(form, languages=(read.source_language, read.target_language))
    content, trained = inspect_corpus(
        corpus,
        form,
        token_strings(form.tokenizer, checkpoint.vocabulary),
        max_tokens=max_tokens,
        examples=examples,
    )
    rows = reachable_rows([e.sequence for e in trained], checkpoint.padding)
    shown = [[t["id"] for t in example["tokens"] if not t["loss"]] for example in content["examples"]]
    about = {
        "origin": read.origin,
        "source_language": read.source_language,
        "target_language": read.target_language,
        "read": len(read),
        "left_out": {reason: count for reason, count in read.left_out.items() if count},
        "cleaning": cleaning,
        "pairs": len(corpus),
        "unit": corpus.unit,
        "columns": column_remark(corpus) if is_installed() else NOT_CHECKED,
    }
    return Inspection(
        {
            "text": about,
            "model": {"name": checkpoint.name, "vocabulary": checkpoint.vocabulary, "context": checkpoint.context},
            "template": form.template,
            "end": content["end"],
            "lengths": content["lengths"],
            "shared_prefix": common_length([example.prompt for example in trained]),
            "shown_prefix": common_length(shown),
            "reachable_rows": len(rows),
            "tokens_per_word": content["tokens_per_word"],
            "examples": content["examples"],
        }
    )
