"""The token string of each row, safe to print on one line.

Must never raise for an id that the tokenizer does not know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def display(text: str) -> str:
    r"""Return `text` quoted, with control characters and other unprintable ones escaped.

    >>> print(display("\n"), display(" the"))
    '\n' ' the'
    """
    return repr(text)


def token_strings(tokenizer: PreTrainedTokenizerBase, vocabulary: int) -> list[str]:
    """Return what each of `vocabulary` rows stands for.

    A token that is only part of a character is shown as the tokenizer's own name of its bytes.
    """
    names = tokenizer.convert_ids_to_tokens(list(range(min(vocabulary, len(tokenizer)))))
    texts = tokenizer.batch_decode([[i] for i in range(len(names))])
    shown = [
        display(str(name)) if "\ufffd" in text or not text else display(text)
        for name, text in zip(names, texts, strict=True)
    ]
    return shown + ["''"] * (vocabulary - len(shown))
