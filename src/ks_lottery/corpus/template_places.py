"""The tokens of a prompt template around the source: places that other tokens can take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ks_lottery.corpus.numbered_tokens import template_parts
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from ks_lottery.corpus.prompt_form import PromptForm

_MARK = "Aquestéselmissatge"


def template_places(form: PromptForm, order: str) -> list[int]:
    """Count the tokens of a template before, between and behind the places of the source, as `template_tokens` has them."""
    return [len(stretch) for stretch in template_tokens(form, order)]


def template_tokens(form: PromptForm, order: str) -> list[list[int]]:
    """Return the tokens of a template before, between and behind the places of the source.

    A beginning of sentence is not among them: the tokenizer adds it to any prompt.

    Raises
    ------
    UserError
        When the chat template of the tokenizer changes the source.
    """
    begins, tokens = form.tokenizer.bos_token_id, list[list[int]]()
    stretches = form.render(order, _MARK).split(_MARK)
    if len(stretches) < 2:
        raise UserError(
            f"template {form.template}: the source cannot be located in its prompt, since the tokenizer's chat template "
            "changes it: choose another `template`"
        )
    for stretch in stretches:
        ids = [
            token
            for part in template_parts(stretch)
            for token in ([part] if isinstance(part, int) else form.tokenizer.encode(part, add_special_tokens=False))
        ]
        begun = not tokens and ids[:1] == [begins]
        tokens.append(ids[int(begun) :])
    return tokens
