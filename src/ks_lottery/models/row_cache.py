"""Keys and values that versions of rows share: a sentence resumes at the first token that looks up another row."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ks_lottery.corpus.batches import collate
from ks_lottery.models.language_model import LabelledLanguageModel
from ks_lottery.models.prefix import common_length, is_plain, prefill
from ks_lottery.models.rows import input_embedding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from transformers import DynamicCache, PreTrainedModel

    from ks_lottery.corpus.batches import Example

MEMORY = 1 << 28
"""Bytes of keys and values that are in memory at a time, about."""


Versions = tuple[Any, ...]
"""The version of the head, and which version of its row each token of a sentence looks up."""

Answers = dict[str, Any]
"""Answers at the labelled positions of one sentence: name to an array with one entry a position."""

Layers = list[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values of each layer."""


@dataclass(frozen=True)
class _Past:
    """A sentence's last run: the versions that it looked up, its answers, its keys and values beyond the prefix."""

    versions: Versions
    answers: Answers
    layers: Layers


def first_difference(before: Versions, now: Versions) -> int:
    """Return the first position at which two runs of one sentence look up different rows; 0 where their heads differ."""
    if before[:2] != now[:2]:
        return 0
    pairs = zip(before[2], now[2], strict=True)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), len(before[2]))


class RowCache:
    """Runs sentences with the rows that are installed at the time, batch by batch.

    Parameters
    ----------
    reduce
        From logits, shape (N, V) and float32, labels, shape (N,), and the number of positions of each sentence, to the answers
        of each sentence.
    share_prefix
        Run what all sentences begin with once for each version of its rows.
    resume
        Save keys and values of each sentence, and resume at the first token that looks up another row.
    beginnings
        What tells the prompts apart, one sequence a sentence with an entry a token; the tokens unless given. Of a gate it has
        what the tokens alone do not say.
    """

    def __init__(
        self,
        lm: PreTrainedModel,
        examples: Sequence[Example],
        batch_size: int,
        *,
        reduce: Callable[[torch.Tensor, torch.Tensor, Sequence[int]], list[Answers]],
        share_prefix: bool,
        resume: bool,
        beginnings: Sequence[Sequence[Any]] | None = None,
    ) -> None:
        self.lm = lm
        self.reduce = reduce
        self.model = LabelledLanguageModel(lm, share_prefix=False)
        self.examples = examples
        self.batch_size = batch_size
        self.device = input_embedding(lm).weight.device
        plain = all(is_plain(layer) for layer in self._empty().layers)
        prompts = [e.prompt for e in examples] if beginnings is None else beginnings
        self.prefix = common_length(prompts) if share_prefix and plain else 0
        self.resumes = resume and share_prefix and plain
        self.ragged = "position_ids" in inspect.signature(lm.forward).parameters
        self.prefixes: dict[Versions, Layers] = {}
        self.past: dict[int, _Past] = {}
        self.computed_tokens = 0

    @property
    def prefix_tokens(self) -> int:
        """Tokens of the common beginning that were computed, once for each version of its rows."""
        return len(self.prefixes) * self.prefix

    def reads(self, examples: Sequence[Example]) -> None:
        """Run these from now on: the same sentences with other marks for a gate."""
        self.examples = examples

    def chunks(self) -> Iterator[list[int]]:
        """Yield sentences by length, as many at a time as fit `MEMORY`; saved keys and values are dropped before each."""
        order = sorted(range(len(self.examples)), key=lambda i: (-len(self.examples[i]), i))
        width = self._width() if self.resumes else 0
        start = 0
        while start < len(order):
            room = (
                len(order) if not width else MEMORY // (width * max(1, len(self.examples[order[start]]) - self.prefix))
            )
            stop = start + max(self.batch_size, room // self.batch_size * self.batch_size)
            self.past.clear()
            yield order[start:stop]
            start = stop

    def answers(self, sentences: Sequence[int], versions: Mapping[int, Versions]) -> Iterator[tuple[int, Answers]]:
        """Yield index and answers of `sentences`, with the rows that are installed now."""
        starts = {i: self._start(i, versions[i]) for i in sentences}
        order = sorted(sentences, key=lambda i: (starts[i] - len(self.examples[i]), i))
        for at in range(0, len(order), self.batch_size):
            batch = order[at : at + self.batch_size]
            first = min(starts[i] for i in batch)
            yield from self._batch(batch, [starts[i] if self.ragged else first for i in batch], versions)

    def _batch(
        self, batch: list[int], starts: list[int], versions: Mapping[int, Versions]
    ) -> Iterator[tuple[int, Answers]]:
        """Run a batch, each sentence from its own start; what comes before is in the cache, padded at the end."""
        inputs = {name: t.to(self.device) for name, t in self._inputs(batch, starts).items()}
        cache = self._cache(batch, starts, versions) if self.prefix or self.resumes else None
        logits, labels = self.model.chunk_logits(**inputs, cache=cache, float32_head=True)
        examples = [self.examples[i] for i in batch]
        before = [max(0, start - (len(e.prompt) - 1)) for e, start in zip(examples, starts, strict=True)]
        sizes = [len(e.response) - n for e, n in zip(examples, before, strict=True)]
        reduced = self.reduce(logits.float(), labels, sizes)
        for row, (i, answer, known) in enumerate(zip(batch, reduced, before, strict=True)):
            if known:
                old = self.past[i].answers
                answer = {name: np.concatenate([old[name][:known], answer[name]]) for name in answer}  # noqa: PLW2901
            if cache is not None and self.resumes:
                layers = self._own(cache, row, starts[row], max(starts), len(self.examples[i]) - 1)
                self.past[i] = _Past(versions[i], answer, layers)
            self.computed_tokens += len(self.examples[i]) - 1 - starts[row]
            yield i, answer

    def _inputs(self, batch: list[int], starts: list[int]) -> dict[str, torch.Tensor]:
        """Return the tensors of `collate` for the tokens after the starts; the mask includes what is in the cache."""
        whole = [self.examples[i].features() for i in batch]
        rest = collate([{k: v[start:] for k, v in f.items()} for f, start in zip(whole, starts, strict=True)])
        cached = torch.zeros((len(batch), max(starts)), dtype=torch.long)
        for row, start in enumerate(starts):
            cached[row, :start] = 1
        mask = torch.cat([cached, rest["attention_mask"]], dim=1)
        places = torch.tensor(starts)[:, None] + torch.arange(rest["input_ids"].shape[1])
        positions = {"position_ids": places} if len(set(starts)) > 1 else {}
        return {**rest, "attention_mask": mask, **positions}

    def _start(self, i: int, versions: Versions) -> int:
        """Return the first position that must be computed; the last token of the sentence always is."""
        past = self.past.get(i)
        different = 0 if past is None else first_difference(past.versions, versions)
        return max(self.prefix, min(different, len(self.examples[i]) - 2))

    def _cache(self, batch: list[int], starts: list[int], versions: Mapping[int, Versions]) -> DynamicCache:
        """Return keys and values of what comes before each start, padded at the end to the last start."""
        cache, room = self._empty(), max(starts)
        if not room:
            return cache
        head = self._prefix_layers(versions[batch[0]])
        pasts = [self.past[i] if start > self.prefix else None for i, start in zip(batch, starts, strict=True)]
        like = head or next(past.layers for past in pasts if past is not None)
        for number in range(len(cache.layers)):
            both: list[torch.Tensor] = []
            for side in (0, 1):
                heads, _, width = like[number][side].shape
                padded = like[number][side].new_zeros((len(batch), heads, room, width))
                if head:
                    padded[:, :, : self.prefix] = head[number][side]
                for row, past in enumerate(pasts):
                    if past is not None:
                        padded[row, :, self.prefix : starts[row]] = past.layers[number][side][
                            :, : starts[row] - self.prefix
                        ]
                both.append(padded)
            cache.update(both[0], both[1], number)
        return cache

    def _own(self, cache: DynamicCache, row: int, start: int, room: int, length: int) -> Layers:
        """Return keys and values of a row's own positions, beyond the prefix and without padding."""
        layers: list[Any] = list(cache.layers)

        def own(tensor: torch.Tensor) -> torch.Tensor:
            return torch.cat([tensor[row, :, self.prefix : start], tensor[row, :, room : room + length - start]], dim=1)

        return [(own(layer.keys), own(layer.values)) for layer in layers]

    def _prefix_layers(self, versions: Versions) -> Layers:
        """Return keys and values of the prefix under the installed rows."""
        if not self.prefix:
            return []
        key = (*versions[:2], versions[2][: self.prefix])
        if key not in self.prefixes:
            tokens = torch.tensor(self.examples[0].sequence[: self.prefix], device=self.device)
            self.prefixes[key] = _tensors(prefill(self.lm, tokens, 1))
        return self.prefixes[key]

    def _width(self) -> int:
        """Return the bytes of keys and values of one token."""
        cache = prefill(self.lm, torch.tensor(self.examples[0].sequence[:1], device=self.device), 1)
        return sum(t.element_size() * t.numel() for pair in _tensors(cache) for t in pair)

    def _empty(self) -> DynamicCache:
        from transformers import DynamicCache

        return DynamicCache(config=self.lm.config)


def _tensors(cache: DynamicCache) -> Layers:
    """Return keys and values of each layer of the cache of one row, (heads, T, width) each."""
    layers: list[Any] = list(cache.layers)
    return [(layer.keys[0], layer.values[0]) for layer in layers]
