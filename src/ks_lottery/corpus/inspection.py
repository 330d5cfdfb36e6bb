"""What a tokenized text looks like: how long its examples are, what they share, and where the loss is taken.

Must never leave the overlong examples out of the lengths that say how many there are.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ks_lottery.corpus.selection import is_spaced

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

    from ks_lottery.corpus.batches import Example
    from ks_lottery.corpus.corpus import Corpus

PERCENTS = (5, 50, 90, 95, 99)
"""Percentiles that are given of each length."""

BINS = 10
"""Bars of a histogram, at most."""


def percentile(ordered: Sequence[int], percent: float) -> int:
    """Return the smallest value that `percent` of the values do not exceed (nearest rank); `ordered` ascends."""
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def describe(lengths: Sequence[int]) -> dict[str, float]:
    """Return smallest, largest, mean and percentiles of some lengths."""
    ordered = sorted(lengths)
    percents = {f"p{percent}": percentile(ordered, percent) for percent in PERCENTS}
    return {"min": ordered[0], **percents, "max": ordered[-1], "mean": sum(ordered) / len(ordered)}


def histogram(lengths: Sequence[int]) -> list[dict[str, int]]:
    """Count lengths in at most ten bins of one width, each from its first to its last length."""
    low, high = min(lengths), max(lengths)
    width = -(-(high - low + 1) // BINS)
    bins = [{"from": start, "to": start + width - 1, "count": 0} for start in range(low, high + 1, width)]
    for length in lengths:
        bins[(length - low) // width]["count"] += 1
    return bins


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


def shared_prefix(examples: Sequence[Example]) -> int:
    """Return how many first tokens all prompts share; training computes them once a batch."""
    same = 0
    for column in zip(*(example.prompt for example in examples), strict=False):
        if len(set(column)) > 1:
            break
        same += 1
    return same


def fertility(tokenizer: PreTrainedTokenizerBase, sentences: Sequence[str], language: str) -> dict[str, Any]:
    """Return the tokens a word, or a character where a language writes no spaces between words."""
    tokens = sum(len(ids) for ids in tokenizer(list(sentences), add_special_tokens=False)["input_ids"])
    spaced = is_spaced(language)
    units = sum(len(s.split()) if spaced else sum(not c.isspace() for c in s) for s in sentences)
    return {"language": language, "tokens": tokens, "unit": "word" if spaced else "character", "ratio": tokens / units}


def both_fertilities(tokenizer: PreTrainedTokenizerBase, corpus: Corpus) -> dict[str, Any]:
    """Return the tokens a word of the source and of the target side."""
    return {
        "source": fertility(tokenizer, [pair.source for pair in corpus], corpus.source_language),
        "target": fertility(tokenizer, [pair.target for pair in corpus], corpus.target_language),
    }
