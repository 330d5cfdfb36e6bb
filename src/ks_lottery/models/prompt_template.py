"""A patch's own prompt as a chat template, and as the TEMPLATE of Ollama: its tokens around what the user types."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ks_lottery.corpus.prompt_form import PromptForm

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHAT_TEMPLATE = (
    "Its chat template puts the tokens of the prompt around each message of the user; a system message has no place."
)
NO_CHAT_TEMPLATE = (
    "The chat template is the base's: tokens of the prompt cannot be written as text. Give the prompt as ids."
)


def prompt_chat_template(prompt: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a chat template in Jinja: each message of the user in the prompt, each of the assistant followed by its end.

    What the tokenizer puts before any text is written at the beginning, since a chat is tokenized without it.

    Parameters
    ----------
    prompt
        The prompt, with ``{source}`` for the message.
    """
    opening = "".join(tokenizer.convert_ids_to_tokens(list(PromptForm(tokenizer, prompt).opening)))
    before, *between, after = prompt.split("{source}")
    inside = "".join(
        f" + {_quoted(text)} + message['content']" if text else " + message['content']" for text in between
    )
    user = f"{_quoted(before)} + message['content']{inside} + {_quoted(after)}"
    end = _quoted(str(tokenizer.eos_token))
    begin = f"{{{{- {_quoted(opening)} -}}}}" if opening else ""
    return (
        f"{begin}{{%- for message in messages -%}}"
        f"{{%- if message['role'] == 'user' -%}}{{{{- {user} -}}}}"
        f"{{%- elif message['role'] == 'assistant' -%}}{{{{- message['content'] + {end} -}}}}"
        "{%- endif -%}{%- endfor -%}"
    )


def modelfile(prompt: str, model: str, end: str) -> str:
    """Return a Modelfile for Ollama.

    Parameters
    ----------
    prompt
        The prompt, with ``{source}`` for what the user types.
    model
        Name of the GGUF file beside it.
    end
        Text of the token that ends an answer.
    """
    template = prompt.replace("{source}", "{{ .Prompt }}")
    return f'FROM ./{model}\nTEMPLATE """{template}"""\nPARAMETER stop {json.dumps(end, ensure_ascii=False)}\n'


def _quoted(text: str) -> str:
    """Return a text as a literal of Jinja."""
    return json.dumps(text, ensure_ascii=False)
