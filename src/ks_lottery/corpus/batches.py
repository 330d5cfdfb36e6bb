"""From sentence pairs to tokens and padded batches. Examples that are too long are left out and counted, never cut."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ks_lottery.config.choices import SPANS
from ks_lottery.corpus.numbered_tokens import check_numbered
from ks_lottery.corpus.prompt_form import PromptForm
from ks_lottery.corpus.prompts import orders
from ks_lottery.corpus.source_span import source_tokens
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import torch
    from transformers import PreTrainedTokenizerBase

    from ks_lottery.corpus.corpus import Corpus

NO_LABEL = -100
"""Label of a position at which nothing is to be predicted (the convention of torch and transformers)."""


@dataclass(frozen=True)
class Example:
    """One pair in tokens: the prompt, and the response with its end-of-sentence token.

    Parameters
    ----------
    in_source
        For each token of the prompt whether it is of the source sentence alone; all others are the instruction. None where
        it was not asked for, or is not known.
    """

    prompt: tuple[int, ...]
    response: tuple[int, ...]
    in_source: tuple[bool, ...] | None = field(default=None, compare=False, repr=False)

    def __len__(self) -> int:
        """Return the number of tokens, prompt and response together."""
        return len(self.prompt) + len(self.response)

    @property
    def sequence(self) -> list[int]:
        """Prompt and response in one."""
        return [*self.prompt, *self.response]

    def cut(self, positions: int) -> Example:
        """Keep the first `positions` tokens of the response; what comes later changes no prediction before it."""
        return replace(self, response=self.response[:positions])

    def features(self) -> dict[str, list[int]]:
        """Return inputs and, aligned with the positions that predict them, labels.

        The last token is no input, since nothing is predicted from it.
        """
        return {
            "input_ids": self.sequence[:-1],
            "labels": [NO_LABEL] * (len(self.prompt) - 1) + list(self.response),
        }


def check_rows(sequences: Iterable[Sequence[int]], rows: int, origin: str) -> None:
    """Refuse tokens that the model has no row for: a tokenizer may have more tokens than the embedding has rows.

    Parameters
    ----------
    sequences
        Tokens of each sentence.
    rows
        Rows of the embedding.
    origin
        What the error calls the text.

    Raises
    ------
    UserError
        When a sentence has such a token.
    """
    for number, tokens in enumerate(sequences, 1):
        last = max(tokens, default=-1)
        if last >= rows:
            raise UserError(
                f"{origin}: sentence {number} has token {last}, but the model's embedding has only {rows:,} rows: "
                "leave that sentence out"
            )


def encode(
    tokenizer: PreTrainedTokenizerBase,
    corpus: Corpus,
    *,
    template: str = "alpaca",
    max_tokens: int = 512,
    rows: int | None = None,
    spans: bool = False,
) -> tuple[list[Example], list[int]]:
    """Render and tokenize a corpus, with the instruction of each pair; texts of one language without template and instruction.

    Parameters
    ----------
    template
        One of `ks_lottery.config.choices.TEMPLATES`, or a text of your own; see `PromptForm`.
    max_tokens
        Longest example, prompt and response together.
    rows
        Rows of the embedding that the tokens are for; None checks nothing.
    spans
        Say which tokens of each prompt are of the source sentence (``in_source``); off by default.

    Returns
    -------
    examples
        Those that fit into `max_tokens`.
    kept
        Their indices in the corpus.

    Raises
    ------
    UserError
        When the template is not known or cannot be read, the tokenizer has none to chat with, or a pair has a token without a
        row.
    """
    if corpus.monolingual:
        return _encode_plain(tokenizer, corpus, max_tokens=max_tokens, rows=rows)
    form = PromptForm(tokenizer, template, (corpus.source_language, corpus.target_language))
    if rows is not None:
        for one in form.templates:
            check_numbered(one, rows)
    sources, targets = ([getattr(pair, side) for pair in corpus.pairs] for side in ("source", "target"))
    instructions = orders(corpus)
    examples = [Example(prompt, response) for prompt, response in form.pairs(instructions, sources, targets)]
    if rows is not None:
        check_rows([example.sequence for example in examples], rows, corpus.origin)
    kept = [index for index, example in enumerate(examples) if len(example) <= max_tokens]
    fitting = [examples[index] for index in kept]
    if spans:
        chosen = [[listed[index] for index in kept] for listed in (instructions, sources, targets)]
        places = source_tokens(form, chosen[0], chosen[1], [e.prompt for e in fitting], chosen[2])
        fitting = [replace(e, in_source=place) for e, place in zip(fitting, places, strict=True)]
    return fitting, kept


def _encode_plain(
    tokenizer: PreTrainedTokenizerBase, corpus: Corpus, *, max_tokens: int, rows: int | None
) -> tuple[list[Example], list[int]]:
    """Tokenize texts of one language: no token is of a source, and all but the first are predicted."""
    documents = PromptForm(tokenizer, "plain").documents([pair.target for pair in corpus])
    examples = [Example(begin, rest, (False,) * len(begin)) for begin, rest in documents]
    if rows is not None:
        check_rows([example.sequence for example in examples], rows, corpus.origin)
    kept = [index for index, example in enumerate(examples) if len(example) <= max_tokens]
    return [examples[index] for index in kept], kept


def longest(tokenizer: PreTrainedTokenizerBase, corpus: Corpus, *, template: str = "alpaca") -> int:
    """Return the ``max_tokens`` that leaves no example out."""
    return max(len(example) for example in encode(tokenizer, corpus, template=template, max_tokens=sys.maxsize)[0])


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
    for row, feature in enumerate(features):
        n = len(feature["input_ids"])
        batch["input_ids"][row, :n] = torch.tensor(feature["input_ids"], dtype=torch.long)
        batch["attention_mask"][row, :n] = 1
        batch["labels"][row, :n] = torch.tensor(feature["labels"], dtype=torch.long)
    return batch


def batches_by_length(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Group indices into batches of like length, so that little is padded; ties keep their order."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    return [order[start : start + size] for start in range(0, len(order), size)]


def span_occurrences(examples: Sequence[Example]) -> dict[str, Counter[int]] | None:
    """Count each token in the instruction, the source and the target of examples.

    Returns
    -------
    dict, or None
        By name of the span; None where there is no example, or the source of one is not known.
    """
    counted: dict[str, Counter[int]] = {name: Counter() for name in SPANS}
    for example in examples:
        if example.in_source is None:
            return None
        for token, here in zip(example.prompt, example.in_source, strict=True):
            counted["source" if here else "instruction"][token] += 1
        counted["target"].update(example.response)
    return counted if examples else None


def occurrences(examples: Iterable[Example]) -> Counter[int]:
    """Count each token in the rendered examples, template and source included."""
    return Counter(token for example in examples for token in example.sequence)
