"""Predictions of several patches of one base on one text, in which nothing is computed twice that two of them share.

Must never copy an answer, a key or a value unless every number that it was computed from is the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from ks_lottery.evaluation.next_token import answers_of, joined
from ks_lottery.models.attention import plain_attention
from ks_lottery.models.row_cache import RowCache
from ks_lottery.models.rows import input_embedding
from ks_lottery.models.sides import installed_patch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from transformers import PreTrainedModel

    from ks_lottery.checkpoint.patch import RowPatch
    from ks_lottery.corpus.batches import Example
    from ks_lottery.evaluation.next_token import Predictions
    from ks_lottery.models.row_cache import Answers, Versions


@dataclass
class Shared:
    """Predictions of each model, and how much of the work was shared.

    Parameters
    ----------
    predictions
        By the name of the model.
    passes, tokens
        Sentences times models, and their tokens: what one pass a model computes.
    computed, computed_tokens
        Sentences that were computed, at least from some token on, all others being copies; and tokens that were.
    """

    predictions: dict[str, Predictions] = field(default_factory=dict)
    passes: int = 0
    tokens: int = 0
    computed: int = 0
    computed_tokens: int = 0


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

    What a causal model answers at a position depends on the tokens up to there, the rows that they look up, and the head. So
    where two patches have the same rows for all tokens of a sentence, and neither touches the head, one computes it and
    the other copies; where they have the same rows up to a token, the second goes on from that token; and what all
    sentences begin with is run once for each version of its rows. A patch of the output side changes every answer:
    nothing is copied from or to it.

    Parameters
    ----------
    lm
        The base, frozen, in evaluation mode.
    patches
        By name; an empty patch is the original model. Small ones are run first, whatever their order.
    share_prefix, share_sentences
        Off, the common beginning is run with every sentence, and each model takes in every sentence.
    tick
        Called with sentences done and sentences in all, copies included.

    Notes
    -----
    A shared number equals what would be computed up to the rounding that batches of another shape bring. Models whose cache is
    more than keys and values (a sliding window, a state) share whole sentences alone.
    """
    work = RowCache(
        lm,
        examples,
        batch_size,
        reduce=answers_of,
        share_prefix=share_prefix,
        resume=share_sentences and len(patches) > 1,
    )
    rows = _Rows(lm, {token for e in examples for token in e.sequence[:-1]})
    known: dict[tuple[int, Versions], Answers] = {}
    order = sorted(patches, key=lambda name: len(patches[name]))
    versions = {name: rows.versions(patches[name]) for name in order}
    heads = {name: () if patches[name].side == "input" else (patches[name].content,) for name in order}
    lengths = [len(e) - 1 for e in examples]
    result = Shared(passes=len(order) * len(examples), tokens=len(order) * sum(lengths))
    keys: dict[tuple[str, int], Versions] = {}
    done = 0
    for chunk in work.chunks():
        for name in order:
            own = () if share_sentences else (name,)
            left: list[int] = []
            for i in chunk:
                looked_up = tuple(versions[name].get(token, 0) for token in examples[i].sequence[:-1])
                key = keys[name, i] = (own, heads[name], looked_up)
                if (i, key) not in known:
                    left.append(i)
            done += len(chunk) - len(left)
            if left:
                with installed_patch(lm, patches[name]), plain_attention(lm), torch.inference_mode():
                    for i, answer in work.answers(left, {i: keys[name, i] for i in left}):
                        known[i, keys[name, i]] = answer
                        done += 1
                        if tick:
                            tick(done, result.passes)
            elif tick:
                tick(done, result.passes)
            result.computed += len(left)
    result.computed_tokens = work.computed_tokens
    for name, patch in patches.items():
        answers = [known[i, keys[name, i]] for i in range(len(examples))]
        made = {"base": patch.base["fingerprint"], "patch": patch.content}
        result.predictions[name] = joined(answers, examples, made)
    return result


class _Rows:
    """Tells versions of rows apart, as the model looks them up: rounded to the type of its body. The base's is 0."""

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
