"""From sentence pairs to tokens and padded batches.

Must never cut an example in silence: what is too long is left out and counted.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ks_lottery.corpus.prompts import instruction, render_prompt

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import torch
    from transformers import PreTrainedTokenizerBase

    from ks_lottery.corpus.corpus import Corpus

NO_LABEL = -100
"""Label of a position at which nothing is to be predicted (the convention of torch and transformers)."""


@dataclass(frozen=True)
class Example:
    """One pair in tokens: the prompt, and the response with its end-of-sentence token."""

    prompt: tuple[int, ...]
    response: tuple[int, ...]

    @property
    def sequence(self) -> list[int]:
        """Prompt and response in one."""
        return [*self.prompt, *self.response]

    def features(self) -> dict[str, list[int]]:
        """Return inputs and, aligned with the positions that predict them, labels.

        The last token is no input, since nothing is predicted from it.
        """
        return {
            "input_ids": self.sequence[:-1],
            "labels": [NO_LABEL] * (len(self.prompt) - 1) + list(self.response),
        }


def prompt_tokens(tokenizer: PreTrainedTokenizerBase, prompt: str) -> tuple[int, ...]:
    """Tokenize a prompt as the model expects a text to begin, and leave it open at the end."""
    ids = list(tokenizer(prompt)["input_ids"])
    if ids and ids[-1] == tokenizer.eos_token_id:
        ids.pop()
    return tuple(ids)


def special_token(tokenizer: PreTrainedTokenizerBase, *names: str) -> int:
    """Return the id of the first special token of these names that the tokenizer has.

    Raises
    ------
    ValueError
        When it has none of them.
    """
    for name in names:
        found = getattr(tokenizer, name)
        if isinstance(found, int):
            return found
    raise ValueError(f"the tokenizer has no {' or '.join(names)}")


def encode(
    tokenizer: PreTrainedTokenizerBase, corpus: Corpus, *, template: str = "alpaca", max_tokens: int = 512
) -> tuple[list[Example], list[int]]:
    """Render and tokenize a corpus.

    Prompt and response are tokenized apart, so that training sees the boundary that generation will meet.

    Returns
    -------
    examples
        Those that fit into `max_tokens`.
    kept
        Their indices in the corpus.
    """
    order = instruction(corpus.source_language, corpus.target_language)
    end = special_token(tokenizer, "eos_token_id")
    examples: list[Example] = []
    kept: list[int] = []
    for index, pair in enumerate(corpus.pairs):
        prompt = prompt_tokens(tokenizer, render_prompt(template, order, pair.source))
        answer = tokenizer(pair.target, add_special_tokens=False)["input_ids"]
        example = Example(prompt, (*answer, end))
        if len(example.prompt) + len(example.response) <= max_tokens:
            examples.append(example)
            kept.append(index)
    return examples, kept


def collate(features: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Pad `features` on the right into tensors of shape (B, T).

    Padded inputs hold token 0; the mask hides them, and they carry no label.
    """
    import torch

    length = max(len(f["input_ids"]) for f in features)
    shape = (len(features), length)
    batch = {
        "input_ids": torch.zeros(shape, dtype=torch.long),
        "attention_mask": torch.zeros(shape, dtype=torch.long),
        "labels": torch.full(shape, NO_LABEL, dtype=torch.long),
    }
    for row, one in enumerate(features):
        n = len(one["input_ids"])
        batch["input_ids"][row, :n] = torch.tensor(one["input_ids"], dtype=torch.long)
        batch["attention_mask"][row, :n] = 1
        batch["labels"][row, :n] = torch.tensor(one["labels"], dtype=torch.long)
    return batch


def batches_by_length(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Group indices into batches of like length, so that little is padded; ties keep their order."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    return [order[start : start + size] for start in range(0, len(order), size)]


def occurrences(examples: Iterable[Example]) -> Counter[int]:
    """Count each token in the rendered examples, template and source included."""
    return Counter(token for example in examples for token in example.sequence)
