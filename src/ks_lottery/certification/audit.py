"""The worst of a certificate: positions that a bound certifies and the small model answers differently, with their text.

Must never leave out how often a bound fails in favour of an example: the certificate counts all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ks_lottery.models.vocabulary import token_strings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

    from ks_lottery.certification.certificate import Certificate
    from ks_lottery.corpus.batches import Example


def worst(
    found: Certificate,
    examples: Sequence[Example],
    sources: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    most: int = 10,
    rule: str = "theorem",
) -> list[dict[str, Any]]:
    """Return the positions where a certified answer fails although the tuned model is surest of it.

    Parameters
    ----------
    examples, sources
        What the predictions were made of, and the source sentences, in the same order.
    most
        How many positions to return; each comes once, with every small model that fails there.
    rule
        By the kind of tau that the certificate shows.

    Returns
    -------
    list of dict
        ``sentence``, ``position``, ``source``, ``so_far`` (the reference before that position), ``wanted`` (the token that the
        tuned model and the reference agree on), ``answers`` (small model to its token), ``half_gap`` (of the tuned model),
        ``taus`` (small model to its tau); the largest half gap first.
    """
    columns = found.columns
    failed = np.flatnonzero(columns[f"{rule}_{found.tau}"] & (columns["small"] != columns["label"]))
    places: dict[tuple[int, int], list[int]] = {}
    for line in failed[np.argsort(-columns["half_gap_tuned"][failed], kind="stable")].tolist():
        places.setdefault((int(columns["sentence"][line]), int(columns["position"][line])), []).append(line)
    strings = token_strings(tokenizer, len(tokenizer))

    def shown(token: int) -> str:
        return strings[token] if token < len(strings) else "''"

    taus = {level.name: level.bounds[found.tau].tau for level in found.levels if found.tau in level.bounds}
    result: list[dict[str, Any]] = []
    for (sentence, position), lines in list(places.items())[:most]:
        names = [str(columns["model"][line]) for line in lines]
        before = tokenizer.decode(list(examples[sentence].response[:position]), skip_special_tokens=True)
        result.append(
            {
                "sentence": sentence,
                "position": position,
                "source": sources[sentence],
                "so_far": str(before),
                "wanted": shown(int(columns["label"][lines[0]])),
                "answers": {n: shown(int(columns["small"][line])) for n, line in zip(names, lines, strict=True)},
                "half_gap": float(columns["half_gap_tuned"][lines[0]]),
                "taus": {name: taus[name] for name in names},
            }
        )
    return result
