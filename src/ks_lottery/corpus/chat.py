"""The tokenizer's own chat template: the prompt as transformers renders it, and how the model's turn is written and ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DATE = "26 Jul 2024"
"""What a template that asks for today's date is told, so that a prompt is the same tomorrow; Llama 3's own default."""

_QUESTION, _ANSWER = "Aquestaéslapregunta", "Aquestaéslaresposta"


@dataclass(frozen=True)
class Turn:
    """How the model's turn is written around its answer.

    Parameters
    ----------
    opening
        What the template writes between the generation prompt and the answer and a model would have to say first, such as
        the name of a channel; it belongs to the prompt.
    lead
        White space between prompt and answer.
    close
        What follows the answer, up to and including the end token; empty when the template has none.
    end
        Id of the end token.
    """

    opening: str
    lead: str
    close: str
    end: int


def chat_prompt(tokenizer: PreTrainedTokenizerBase, message: str) -> str:
    """Return a user's message as the model gets it, special tokens and the opening of the model's turn included.

    It is to be tokenized with ``add_special_tokens=False``: the template writes a beginning-of-sentence token itself.

    Raises
    ------
    UserError
        When the tokenizer has no chat template, or the template cannot render one user turn.
    """
    return _render(tokenizer, [{"role": "user", "content": message}], prompt=True)


def read_turn(tokenizer: PreTrainedTokenizerBase) -> Turn:
    """Find out how a template writes the model's turn, by rendering one.

    Raises
    ------
    UserError
        When the answer does not come out of the template as it went in.
    """
    prompt = chat_prompt(tokenizer, _QUESTION)
    messages = [{"role": "user", "content": _QUESTION}, {"role": "assistant", "content": _ANSWER}]
    head, answer, tail = _render(tokenizer, messages, prompt=False).partition(_ANSWER)
    if not answer:
        raise UserError("the tokenizer's chat template does not show the model's answer: choose another template")
    between = head.removeprefix(prompt) if head.startswith(prompt) else ""
    opening = between if between.strip() else ""
    tokens: dict[int, Any] = tokenizer.added_tokens_decoder
    for token in tokenizer(tail, add_special_tokens=False)["input_ids"]:
        if token in tokens and not tokens[token].content.isspace():
            text = tokens[token].content
            return Turn(opening, "" if opening else between, tail[: tail.index(text) + len(text)], token)
    return Turn(opening, "" if opening else between, "", int(tokenizer.eos_token_id))  # type: ignore[arg-type]


def _render(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], *, prompt: bool) -> str:
    if not tokenizer.chat_template:
        raise UserError(
            "template chat: the model's tokenizer has no chat template, as base models have none: choose alpaca or plain"
        )
    try:
        template = tokenizer.get_chat_template()
        if "strftime_now" in template:
            template = f"{{%- macro strftime_now(format) -%}}{DATE}{{%- endmacro -%}}{template}"
        rendered = tokenizer.apply_chat_template(
            messages, chat_template=template, tokenize=False, add_generation_prompt=prompt, enable_thinking=False
        )
    except Exception as error:  # a template raises what it likes
        raise UserError(f"the tokenizer's chat template cannot be used for a user's turn: {error}") from error
    return str(rendered)
