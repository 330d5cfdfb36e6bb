"""The template ``mixed``: several templates, one for each sentence, by a hash of the sentence alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ks_lottery.config.choices import MIX
from ks_lottery.corpus.prompts import CHAT, MIXED, TEMPLATES, check_template
from ks_lottery.corpus.selection import salted_fraction
from ks_lottery.errors import UserError, shortened
from ks_lottery.store.json_content import parse_json, read_content

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ks_lottery.config.groups import PatchPromptOptions

S = TypeVar("S", bound="PatchPromptOptions")
_FROM = f"{MIXED}:"
_SALT = "template"
_REMEDY = "give a JSON list of two or more templates"


def is_mixed(template: str) -> bool:
    """Say whether a template stands for several.

    >>> is_mixed("mixed"), is_mixed("mixed:mine.json"), is_mixed("plain"), is_mixed("mixed: {source}")
    (True, True, False, False)
    """
    if not template.startswith(_FROM):
        return template == MIXED
    return "{source}" not in template or template.startswith(f"{_FROM}[")


def resolved_template(template: str) -> str:
    """Check a template, and replace the file of ``mixed:FILE`` by its content: what results depend on.

    Parameters
    ----------
    template
        A name of `ks_lottery.config.choices.TEMPLATES`; a text of your own; or ``mixed:`` and a file with a JSON list of names
        and texts, or that list itself.

    Returns
    -------
    str
        For ``mixed:FILE`` the text ``mixed:`` and the list; any other template as it is.

    Raises
    ------
    UserError
        When the template is not known, or the file or the list cannot be used.

    Examples
    --------
    >>> resolved_template('mixed:["plain",  "Catalan for {source}:"]')
    'mixed:["plain", "Catalan for {source}:"]'
    """
    if not is_mixed(template):
        check_template(template)
    elif template != MIXED:
        return f"{_FROM}{json.dumps(mixed_templates(template), ensure_ascii=False)}"
    return template


def mixed_templates(template: str) -> tuple[str, ...]:
    """Return the templates that a mix consists of, in their order; none where the template is no mix.

    Raises
    ------
    UserError
        When the file or the list of ``mixed:`` cannot be used.

    Examples
    --------
    >>> mixed_templates('mixed:["plain", "{source} ="]'), mixed_templates("plain")
    (('plain', '{source} ='), ())
    """
    if not is_mixed(template):
        return ()
    if template == MIXED:
        return MIX
    given = template.removeprefix(_FROM)
    if given.startswith("["):
        name = "the list of `template`"
        return _checked(parse_json(given, name, _REMEDY), name)
    if not given:
        raise UserError(f"template {template}: there is no file. Give one: mixed:FILE")
    return _checked(read_content(Path(given).expanduser(), _REMEDY), given)


def mixed_texts(template: str) -> dict[str, list[str]]:
    """Return the texts of the templates of a mix by the setting ``templates``, for manifests; nothing for other templates."""
    names = mixed_templates(template)
    return {"templates": [TEMPLATES.get(name, name) for name in names]} if names else {}


def mixed_place(source: str, count: int) -> int:
    """Return which of `count` templates a sentence gets: a function of the sentence alone.

    Copies of a sentence that differ in case or white space get the same. Sentences are spread evenly, also those of one part
    of a split, whose hash is another.
    """
    return int(salted_fraction(_SALT, source) * count)


def with_template(settings: S, prompt: str | None) -> S:
    """Return settings with the template that is used, and its content: see `resolved_template`.

    Parameters
    ----------
    settings
        Of a command whose patch may have a prompt of its own.
    prompt
        Prompt of a patch, used where the settings name no template; None where it has none.

    Raises
    ------
    UserError
        When the template is not known, or the file or the list of a mix cannot be used.
    """
    shown = settings.with_prompt(prompt)
    return replace(shown, template=resolved_template(shown.shown_as))


def _checked(content: object, name: str) -> tuple[str, ...]:
    """Return the templates of a list, or refuse it with the first thing that is wrong."""
    if not isinstance(content, list):
        raise UserError(f"{name} is JSON, but not a list: {_REMEDY}")
    templates: Sequence[Any] = content  # pyright: ignore[reportUnknownVariableType]
    for number, template in enumerate(templates, 1):
        known = isinstance(template, str) and (template in TEMPLATES or "{source}" in template)
        if isinstance(template, str) and (template == CHAT or is_mixed(template)):
            raise UserError(
                f"{name}: template {number} is {shortened(template)}, which cannot be part of a mix. Use "
                f"{', '.join(TEMPLATES)}, or a text that contains {{source}}"
            )
        if not known:
            raise UserError(
                f"{name}: template {number} is {shortened(template)}, but must be a text that contains {{source}}, or one of "
                f"{', '.join(TEMPLATES)}"
            )
        if not _is_encodable(template):
            raise UserError(f"{name}: template {number} is not UTF-8 text. Write its characters as they are")
        if template in templates[: number - 1]:
            raise UserError(f"{name}: template {number} occurs twice. List each template once")
    if len(templates) < 2:
        raise UserError(f"{name} has {len(templates)} of the 2 or more templates of a mix: {_REMEDY}")
    return tuple(templates)


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
