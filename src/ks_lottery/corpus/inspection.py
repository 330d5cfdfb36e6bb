"""What a tokenized text looks like: how long its examples are, where the loss is taken, and how many tokens a word takes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_lottery.corpus.batches import encode
from ks_lottery.corpus.languages import is_spaced
from ks_lottery.corpus.prompts import orders

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

    from ks_lottery.corpus.batches import Example
    from ks_lottery.corpus.corpus import Corpus
    from ks_lottery.corpus.prompt_form import PromptForm

PERCENTS = (5, 50, 90, 95, 99)
"""Percentiles that are given of each length."""

BINS = 10
"""Bars of a histogram, at most."""


def inspect_corpus(
    corpus: Corpus, form: PromptForm, names: Sequence[str], *, max_tokens: int = 512, examples: int = 3
) -> tuple[dict[str, Any], list[Example]]:
    """Tokenize a text as training and translating do, and describe the outcome.

    Parameters
    ----------
    form
        Tokenizer and template.
    names
        The token string of each row of the embedding, as it is shown.
    max_tokens
        Longest example that training takes; the lengths are those of all examples.
    examples
        How many examples to show token by token, the first of the text.

    Returns
    -------
    content
        Plain values: ``end``, ``lengths``, ``tokens_per_word`` and ``examples``.
    trained
        The examples that training takes.
    """
    encoded = encode(form.tokenizer, corpus, template=form.template, max_tokens=sys.maxsize, rows=len(names))[0]
    instructions = orders(corpus)
    content = {
        "end": {"id": encoded[0].response[-1], "token": names[encoded[0].response[-1]]},
        "lengths": lengths_of(encoded, max_tokens),
        "tokens_per_word": both_fertilities(form.tokenizer, corpus),
        "examples": [
            {
                "number": number,
                "source": pair.source,
                "target": pair.target,
                "prompt": "" if corpus.monolingual else form.render(instructions[number], pair.source),
                "overlong": len(encoded[number]) > max_tokens,
                "tokens": _tokens(encoded[number], names),
            }
            for number, pair in enumerate(corpus.pairs[:examples])
        ],
    }
    return content, [example for example in encoded if len(example) <= max_tokens]


def _tokens(example: Example, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return each token, and whether the loss is taken on predicting it."""
    sides = [(token, False) for token in example.prompt] + [(token, True) for token in example.response]
    return [{"id": token, "token": names[token], "loss": loss} for token, loss in sides]


def describe(lengths: Sequence[int]) -> dict[str, float]:
    """Return smallest, largest, mean and percentiles of some lengths.

    A percentile is the smallest length that so many percent of the lengths do not exceed (nearest rank).
    """
    percentiles = np.percentile(lengths, PERCENTS, method="inverted_cdf")
    return {
        "min": min(lengths),
        **{f"p{percent}": int(value) for percent, value in zip(PERCENTS, percentiles, strict=True)},
        "max": max(lengths),
        "mean": float(np.mean(lengths)),
    }


def histogram(lengths: Sequence[int]) -> list[dict[str, int]]:
    """Count lengths in at most ten bins of one width, each from its first to its last length."""
    low, high = min(lengths), max(lengths)
    width = -(-(high - low + 1) // BINS)
    starts = np.arange(low, high + 1, width)
    counts, _ = np.histogram(lengths, bins=[*starts, starts[-1] + width])
    return [
        {"from": int(start), "to": int(start) + width - 1, "count": int(count)}
        for start, count in zip(starts, counts, strict=True)
    ]


def lengths_of(examples: Sequence[Example], max_tokens: int) -> dict[str, Any]:
    """Describe the lengths of all examples in tokens, and say how many exceed `max_tokens`."""
    totals = [len(example) for example in examples]
    return {
        "prompt": describe([len(example.prompt) for example in examples]),
        "response": describe([len(example.response) for example in examples]),
        "total": describe(totals),
        "histogram": histogram(totals),
        "max_tokens": max_tokens,
        "overlong": sum(total > max_tokens for total in totals),
        "loss_share": sum(len(example.response) for example in examples) / sum(totals),
    }


def fertility(tokenizer: PreTrainedTokenizerBase, sentences: Sequence[str], language: str) -> dict[str, Any]:
    """Return the tokens a word, or a character where a language writes no spaces between words."""
    tokens = sum(len(ids) for ids in tokenizer(list(sentences), add_special_tokens=False)["input_ids"])
    spaced = is_spaced(language)
    units = sum(len(s.split()) if spaced else sum(not c.isspace() for c in s) for s in sentences)
    return {"language": language, "tokens": tokens, "unit": "word" if spaced else "character", "ratio": tokens / units}


def both_fertilities(tokenizer: PreTrainedTokenizerBase, corpus: Corpus) -> dict[str, Any]:
    """Return the tokens a word of the source and of the target side; of the target alone where not every pair has a source."""
    if not all(pair.source for pair in corpus):
        return {"target": fertility(tokenizer, [pair.target for pair in corpus], corpus.target_language)}
    return {
        "source": fertility(tokenizer, [pair.source for pair in corpus], corpus.source_language),
        "target": fertility(tokenizer, [pair.target for pair in corpus], corpus.target_language),
    }
