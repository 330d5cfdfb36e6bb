"""Predictions of several patches of one base on one text, in which nothing is computed twice that two of them share.

Must never copy an answer unless every number that it was computed from is the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ks_lottery.corpus.batches import batches_by_length, collate
from ks_lottery.evaluation.next_token import answers_of, joined
from ks_lottery.models.language_model import LabelledLanguageModel
from ks_lottery.models.prefix import MIN_SHARED, common_prefix, prefill, repeated
from ks_lottery.models.rows import input_embedding
from ks_lottery.models.sides import installed_patch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from transformers import DynamicCache, PreTrainedModel

    from ks_lottery.checkpoint.patch import RowPatch
    from ks_lottery.corpus.batches import Example
    from ks_lottery.evaluation.next_token import Answers, Predictions

Key = tuple[Any, ...]
"""What a computation depends on beside the tokens: their rows in a model, and its head."""


@dataclass
class Shared:
    """Predictions of each model, and how much of the work was shared.

    Parameters
    ----------
    predictions
        By the name of the model.
    passes
        Sentences times models: what one pass a model computes.
    computed
        Sentences that were computed; all others are copies.
    """

    predictions: dict[str, Predictions] = field(default_factory=dict)
    passes: int = 0
    computed: int = 0


def predict_patches(
    lm: PreTrainedModel,
    patches: Mapping[str, RowPatch],
    examples: Sequence[Example],
    *,
    batch_size: int = 16,
    share_prefix: bool = True,
    share_sentences: bool = True,
    tick: Callable[[int, int], None] | None = None,
) -> Shared:
    """Run several models over `examples` under teacher forcing, each the base with one patch.

    A causal model's answers in a sentence depend on its tokens, the rows that they look up, and the head. So where two patches
    have the same rows for all tokens of a sentence, and neither touches the head, one computes it and the other copies; and
    the prefix that all sentences begin with is run once for each version of its rows. A patch of the output side
    changes every answer: nothing is copied from or to it.

    Parameters
    ----------
    lm
        The base, frozen, in evaluation mode.
    patches
        By name; an empty patch is the original model.
    share_prefix, share_sentences
        Off, each model takes in every sentence whole.
    tick
        Called with sentences done and sentences in all, copies included.

    Notes
    -----
    A copy equals what would be computed up to the rounding that batches of another shape bring.
    """
    work = _Work(lm, examples, batch_size, _prefix_of(examples) if share_prefix else 0)
    rows = _Rows(lm, {token for e in examples for token in e.sequence[:-1]})
    known: dict[tuple[int, Key], Answers] = {}
    result = Shared(passes=len(patches) * len(examples))
    for number, (name, patch) in enumerate(patches.items()):
        versions, head = rows.versions(patch), () if patch.side == "input" else (patch.content,)
        own = () if share_sentences else (name,)
        keys = [(*own, *head, *_key(versions, e.sequence[:-1])) for e in examples]
        left = [i for i, key in enumerate(keys) if (i, key) not in known]
        begun = number * len(examples) + len(examples) - len(left)
        if left:
            with installed_patch(lm, patch), torch.inference_mode():
                prefix_key = (*own, *head, *_key(versions, work.prefix))
                for done, (index, answer) in enumerate(work.answers(left, prefix_key), start=1):
                    known[index, keys[index]] = answer
                    if tick:
                        tick(begun + done, result.passes)
        if tick and not left:
            tick(begun, result.passes)
        result.computed += len(left)
        made = {"base": patch.base["fingerprint"], "patch": patch.content}
        result.predictions[name] = joined([known[i, key] for i, key in enumerate(keys)], examples, made)
    return result


def _prefix_of(examples: Sequence[Example]) -> int:
    """Return how many first tokens all sentences share; each keeps the last token of its prompt, which predicts the first."""
    shared = min(common_prefix([e.prompt for e in examples]), min(len(e.prompt) for e in examples) - 1)
    return shared if shared >= MIN_SHARED else 0


def _key(versions: Mapping[int, int], tokens: Iterable[int]) -> Key:
    return tuple((token, versions[token]) for token in sorted(set(tokens)) if token in versions)


class _Rows:
    """Tells versions of rows apart, as the model looks them up: rounded to the type of its body."""

    def __init__(self, lm: PreTrainedModel, tokens: set[int]) -> None:
        self.weight = input_embedding(lm).weight
        self.tokens = np.array(sorted(tokens), dtype=np.int64)
        self.numbers: dict[tuple[int, bytes], int] = {}

    def versions(self, patch: RowPatch) -> dict[int, int]:
        """Return token to version, of the tokens whose row is not the base's."""
        values = patch.values_of("input")
        if values is None:
            return {}
        at = np.flatnonzero(np.isin(patch.ids, self.tokens))
        ids = patch.ids[at]
        ours = values[torch.from_numpy(at)].to(self.weight.dtype)
        base = self.weight[torch.from_numpy(ids).to(self.weight.device)].detach().cpu()
        moved = (ours != base).any(dim=1).tolist()
        raw = ours.contiguous().view(torch.uint8).numpy()
        return {
            int(token): self.numbers.setdefault((int(token), raw[place].tobytes()), len(self.numbers) + 1)
            for place, token in enumerate(ids)
            if moved[place]
        }


class _Work:
    """Computes sentences in batches of like length, after a prefix that is run once for each version of its rows."""

    def __init__(self, lm: PreTrainedModel, examples: Sequence[Example], batch_size: int, shared: int) -> None:
        self.lm = lm
        self.model = LabelledLanguageModel(lm, share_prefix=False)
        self.examples = examples
        self.batch_size = batch_size
        self.prefix = list(examples[0].sequence[:shared])
        self.caches: dict[Key, DynamicCache | None] = {}

    def answers(self, left: Sequence[int], prefix_key: Key) -> Iterable[tuple[int, Answers]]:
        """Yield index and answers of the sentences `left`, with the rows that are installed now."""
        device = next(self.lm.parameters()).device
        cache = self._cache(prefix_key)
        shared = 0 if cache is None else len(self.prefix)
        for places in batches_by_length([len(self.examples[i]) for i in left], self.batch_size):
            batch = [left[place] for place in places]
            inputs = {n: t.to(device) for n, t in collate([self.examples[i].features() for i in batch]).items()}
            own = None if cache is None else repeated(cache, len(batch))
            logits, labels = self.model.logits_after(**inputs, shared=shared, cache=own, float32_head=True)
            yield from zip(
                batch, answers_of(logits.float(), labels, [len(self.examples[i].response) for i in batch]), strict=True
            )

    def _cache(self, key: Key) -> DynamicCache | None:
        """Return keys and values of the prefix under the installed rows; None where they cannot be handed on."""
        if not self.prefix:
            return None
        if key not in self.caches:
            device = next(self.lm.parameters()).device
            cache = prefill(self.lm, torch.tensor(self.prefix, device=device), 1)
            self.caches[key] = cache if repeated(cache, 1) is not None else None
        return self.caches[key]
