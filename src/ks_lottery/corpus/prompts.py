"""How a sentence is shown to the model: the templates and the instruction. Braces in a sentence are text."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from ks_lottery.corpus.languages import language_name
from ks_lottery.errors import UserError, shortened

if TYPE_CHECKING:
    from ks_lottery.corpus.corpus import Corpus

TEMPLATES = {
    "alpaca": (
        "Below is an instruction that describes a task, paired with an input that provides further context. "
        "Write a response that appropriately completes the request.\n\n"
        "### Instruction:\n{instruction}\n\n### Input:\n{source}\n\n### Response:\n"
    ),
    "alpaca-stanford": (
        "Below is an instruction that describes a task, paired with an input that provides further context. "
        "Write a response that appropriately completes the request.\n\n"
        "### Instruction:\n{instruction}\n\n### Input:\n{source}\n\n### Response:"
    ),
    "alpaca-single": (
        "Below is an instruction that describes a task, paired with an input that provides further context. "
        "Write a response that appropriately completes the request.\n"
        "### Instruction:\n{instruction}\n### Input:\n{source}\n### Response:"
    ),
    "plain": "{instruction}\n{source}\n",
    "labels": "{source_language}:\n{source}\n\n{target_language}:\n",
    "question": 'How do you say this in {target_language}?\n\n"{source}"\n\nAnswer:\n',
    "text-first": "{source}\n\n---\nThe text above, put from {source_language} into {target_language}:\n",
    "request": "Please give me the {target_language} version of this {source_language} text: {source}\nHere it is:\n",
}
"""Name to template.

- ``alpaca``: Stanford Alpaca's wording with a line break after ``### Response:``, which is ours: prompt and response are
  tokenized apart.
- ``alpaca-stanford``: Stanford Alpaca's own, which is also in one file of the paper's authors (arXiv 2311.09071).
- ``alpaca-single``: single line breaks, as in another file of theirs.
- ``labels``, ``question``, ``text-first``: our own short ones, with words and a layout of their own; they name the languages
  and show no instruction. They are part of ``mixed``.
- ``request``: another one of these, which is no part of ``mixed``, to test on.
"""

WITHOUT_INPUT = {
    "alpaca": (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\n{instruction}\n\n### Response:\n"
    ),
    "alpaca-stanford": (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\n{instruction}\n\n### Response:"
    ),
    "alpaca-single": (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n"
        "### Instruction:\n{instruction}\n### Response:"
    ),
    "plain": "{instruction}\n",
}
"""Name to template for an instruction without an input: Stanford Alpaca's own wording, in the forms above."""

LANGUAGES = ("{source_language}", "{target_language}")
"""Places of the names of the languages in a template."""

JOINT = frozenset({"alpaca-stanford", "alpaca-single"})
"""Templates whose prompt and response are tokenized as one text, as their authors do."""

CHAT = "chat"
"""Name of the template that the tokenizer brings along; see `ks_lottery.corpus.chat`."""

MIXED = "mixed"
"""Name of the template that is several; see `ks_lottery.corpus.mixed_templates`."""


def instruction(source_language: str, target_language: str) -> str:
    """Return what the model is told to do.

    >>> instruction("en", "ca")
    'Translate the following sentence from English to Catalan.'
    """
    return (
        f"Translate the following sentence from {language_name(source_language)} to {language_name(target_language)}."
    )


def orders(corpus: Corpus) -> list[str]:
    """Return the instruction of each pair: the text's own where it has one, else the one that the languages make.

    A text of one language is shown without one: its instructions are empty.
    """
    if corpus.monolingual:
        return [""] * len(corpus)
    general = instruction(corpus.source_language, corpus.target_language)
    return [pair.instruction or general for pair in corpus.pairs]


def usual_order(corpus: Corpus) -> str:
    """Return the instruction that most pairs have, the first of equals; what a sentence without one is shown with."""
    return Counter(orders(corpus)).most_common(1)[0][0]


def check_template(template: str) -> None:
    """Refuse a template that is neither known nor has a place for the sentence; a mix is several, and checked elsewhere.

    Raises
    ------
    UserError
        Naming those that are known.
    """
    if template in {*TEMPLATES, CHAT} or "{source}" in template:
        return
    raise UserError(
        f"unknown template {shortened(template)}: use {', '.join([*TEMPLATES, CHAT, MIXED])}, or a text of your own that "
        "contains {source}"
    )


def template_text(template: str, languages: tuple[str, str] | None = None) -> str:
    """Return the text of a template, with the names of the languages in their places.

    Parameters
    ----------
    template
        A name of `TEMPLATES`, or a text of your own.
    languages
        Codes or names of the source and target language; None is enough for a template that does not name them.

    Raises
    ------
    UserError
        When the template names languages, and none are given or one is not known.

    Examples
    --------
    >>> template_text("In {target_language}: {source}", ("en", "ca"))
    'In Catalan: {source}'
    """
    text = TEMPLATES.get(template, template)
    if not any(place in text for place in LANGUAGES):
        return text
    if languages is None:
        raise UserError(f"template {shortened(template)} names the languages of the text: give them as `languages`")
    source, target = languages
    return with_languages(text, language_name(source), language_name(target))


def with_languages(text: str, source: str, target: str) -> str:
    """Write the names of two languages into their places in a template.

    >>> with_languages("{source_language}: {source}", "English", "Catalan")
    'English: {source}'
    """
    names: dict[str, str] = dict(zip(LANGUAGES, (source, target), strict=True))
    return re.sub("|".join(map(re.escape, LANGUAGES)), lambda found: names[found[0]], text)


def render_prompt(template: str, order: str, source: str, languages: tuple[str, str] | None = None) -> str:
    r"""Fill a template of text.

    Parameters
    ----------
    template
        A name of `TEMPLATES`, or a text of your own with ``{source}`` and, if you like, ``{instruction}``,
        ``{source_language}`` and ``{target_language}``.
    languages
        Codes or names of the two, for a template that names them; see `template_text`.

    Raises
    ------
    UserError
        When the template is neither known nor has a place for the sentence, or it names languages that are not given.

    Examples
    --------
    >>> render_prompt("plain", "Translate.", "a {source} b")
    'Translate.\na {source} b\n'
    """
    check_template(template)
    text = template_text(template, languages)
    instructs_alone = bool(order.strip()) and not source.strip()
    return fill(without_input(template, text) if instructs_alone else text, order, source)


def without_input(template: str, text: str) -> str:
    """Return the template for an instruction that needs no input: a published one, or the text with nothing as its source.

    Parameters
    ----------
    template
        A name of `TEMPLATES`, or a text of your own.
    text
        Its text (`template_text`).

    Raises
    ------
    UserError
        When the template shows no instruction, so that nothing would be shown.
    """
    if "{instruction}" not in text:
        raise UserError(
            f"template {shortened(template)} shows no instruction, and an example has nothing but one: use "
            f"{', '.join(WITHOUT_INPUT)}, {CHAT}, or a text that contains {{instruction}}"
        )
    return WITHOUT_INPUT.get(template, text)


def fill(text: str, order: str, source: str) -> str:
    """Fill the places of a template, or of a part of one."""
    values = {"{instruction}": order, "{source}": source}
    return re.sub(r"\{instruction\}|\{source\}", lambda found: values[found[0]], text)
