"""Predictions of several patches of one base on one text; what two patches share is computed once."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ks_lottery.evaluation.next_token import answers_of, joined
from ks_lottery.models.attention import plain_attention
from ks_lottery.models.gate import gated, marked
from ks_lottery.models.row_cache import RowCache
from ks_lottery.models.rows import input_embedding
from ks_lottery.models.sides import installed_patch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from transformers import PreTrainedModel

    from ks_lottery.checkpoint.patch import RowPatch
    from ks_lottery.corpus.batches import Example
    from ks_lottery.evaluation.predictions import Predictions
    from ks_lottery.models.row_cache import Answers, Versions


@dataclass(kw_only=True)
class Shared:
    """Predictions of each model, and how much of the computation was shared.

    Parameters
    ----------
    predictions
        By the name of the model.
    passes, tokens
        Sentences times models, and their tokens: what a pass for each model would compute.
    computed, computed_tokens
        Sentences that were computed, whole or in part, all others being copies; and computed tokens.
    prefix_tokens
        Computed tokens of what all sentences begin with, beside `computed_tokens`.
    prefix
        Number of tokens that all sentences begin with, and that were computed apart; 0 where none were.
    """

    predictions: dict[str, Predictions] = field(default_factory=dict)
    passes: int = 0
    tokens: int = 0
    computed: int = 0
    computed_tokens: int = 0
    prefix_tokens: int = 0
    prefix: int = 0


@dataclass(frozen=True, kw_only=True)
class Gate:
    """At which positions of each sentence the rows of a patch are active.

    Parameters
    ----------
    prompts
        One mask a sentence, with an entry for each token of its prompt.
    rest
        Whether they are active behind the prompt.
    """

    prompts: Sequence[Sequence[bool]]
    rest: bool

    def marked(self, examples: Sequence[Example]) -> list[Example]:
        """Return the examples with the marks of `ks_lottery.models.gate`."""
        pairs = zip(examples, self.prompts, strict=True)
        return [replace(e, prompt=marked(e.prompt, active, rest=self.rest)) for e, active in pairs]

    def versions(self, numbers: Mapping[int, int], example: Example, sentence: int) -> tuple[int, ...]:
        """Return which version of its row each token looks up; 0 is the base's."""
        active = [*self.prompts[sentence], *[self.rest] * len(example.response)]
        tokens = zip(example.sequence[:-1], active, strict=False)
        return tuple(numbers.get(token, 0) if on else 0 for token, on in tokens)


def predict_patches(
    lm: PreTrainedModel,
    patches: Mapping[str, RowPatch],
    examples: Sequence[Example],
    *,
    batch_size: int = 16,
    share_prefix: bool = True,
    share_sentences: bool = True,
    gates: Mapping[str, Gate] | None = None,
    tick: Callable[[int, int], None] | None = None,
) -> Shared:
    """Run several models over `examples` under teacher forcing, each the base with one patch.

    The answer of a causal model at a position depends on the tokens up to there, the rows that they look up, and the head. So
    where two patches have the same rows for all tokens of a sentence, and the same head, the second copies the answers of the
    first; where they have the same rows up to a token, the second resumes at that token; and what all sentences begin with is
    computed once for each version of its rows. A patch of the output side changes every answer, so that it shares none.

    Parameters
    ----------
    lm
        The base, frozen, in evaluation mode.
    patches
        By name; an empty patch is the original model. Small ones are run first, whatever their order.
    share_prefix, share_sentences
        False: the common beginning is computed with every sentence; each model computes every sentence.
    gates
        Where the rows of a patch are active, by its name; everywhere unless given. Rows of the output side are always active.
    tick
        Called with sentences done and sentences in all, copies included.

    Notes
    -----
    A shared number equals the computed one up to the rounding of batches of another shape. Models whose cache is more than
    keys and values (a sliding window, a state) share whole sentences only.
    """
    gates = gates or {}
    work = RowCache(
        lm,
        examples,
        batch_size,
        reduce=answers_of,
        share_prefix=share_prefix,
        resume=share_sentences and len(patches) > 1,
        beginnings=_beginnings(examples, gates),
    )
    rows = _Rows(lm, {token for e in examples for token in e.sequence[:-1]})
    answers: dict[tuple[int, Versions], Answers] = {}
    order = sorted(patches, key=lambda name: len(patches[name]))
    versions = {name: rows.versions(patches[name]) for name in order}
    heads = {name: () if patches[name].side == "input" else (patches[name].content,) for name in order}
    inputs = {name: gate.marked(examples) for name, gate in gates.items()}
    lengths = [len(e) - 1 for e in examples]
    result = Shared(passes=len(order) * len(examples), tokens=len(order) * sum(lengths))
    keys: dict[tuple[str, int], Versions] = {}
    done = 0
    for chunk in work.chunks():
        for name in order:
            own = () if share_sentences else (name,)
            missing: list[int] = []
            for i in chunk:
                looked_up = (
                    gates[name].versions(versions[name], examples[i], i)
                    if name in gates
                    else tuple(versions[name].get(token, 0) for token in examples[i].sequence[:-1])
                )
                key = keys[name, i] = (own, heads[name], looked_up)
                if (i, key) not in answers:
                    missing.append(i)
            done += len(chunk) - len(missing)
            if missing:
                gate = gates.get(name)
                work.reads(examples if gate is None else inputs[name])
                gating = nullcontext() if gate is None else gated(lm, rest=gate.rest)
                with installed_patch(lm, patches[name]), gating, plain_attention(lm), torch.inference_mode():
                    for i, answer in work.answers(missing, {i: keys[name, i] for i in missing}):
                        answers[i, keys[name, i]] = answer
                        done += 1
                        if tick:
                            tick(done, result.passes)
            elif tick:
                tick(done, result.passes)
            result.computed += len(missing)
    result.computed_tokens, result.prefix_tokens, result.prefix = work.computed_tokens, work.prefix_tokens, work.prefix
    for name, patch in patches.items():
        of_patch = [answers[i, keys[name, i]] for i in range(len(examples))]
        made_from = {"base": patch.base["fingerprint"], "patch": patch.content}
        result.predictions[name] = joined(of_patch, examples, made_from)
    return result


def _beginnings(examples: Sequence[Example], gates: Mapping[str, Gate]) -> list[Sequence[Any]]:
    """Return the prompts with all their masks: only what is alike under every gate is a common beginning."""
    if not gates:
        return [e.prompt for e in examples]
    return [list(zip(e.prompt, *(g.prompts[i] for g in gates.values()), strict=True)) for i, e in enumerate(examples)]


class _Rows:
    """Numbers the versions of each row, rounded to the type of the model's body as in its lookup; the base's is 0."""

    def __init__(self, lm: PreTrainedModel, tokens: set[int]) -> None:
        self.weight = input_embedding(lm).weight
        self.tokens = np.array(sorted(tokens), dtype=np.int64)
        self.numbers: dict[tuple[int, bytes], int] = {}

    def versions(self, patch: RowPatch) -> dict[int, int]:
        """Return token to version, for tokens whose row is not the base's."""
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
