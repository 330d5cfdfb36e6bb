"""Scores of translations through sacrebleu, each with the signature that makes two numbers comparable.

Must never compute a score of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


def score(hypotheses: Sequence[str], references: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Score `hypotheses` against one reference each.

    Returns
    -------
    dict
        ``bleu`` and ``chrf`` (chrF++, word order 2), each with ``score`` from 0 to 100 and sacrebleu's ``signature``.

    Raises
    ------
    ValueError
        When the two differ in number, or there is nothing to score.
    """
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    if len(hypotheses) != len(references) or not hypotheses:
        raise ValueError(f"{len(hypotheses)} hypotheses cannot be scored against {len(references)} references")
    result: dict[str, dict[str, Any]] = {}
    for name, metric in (("bleu", BLEU()), ("chrf", CHRF(word_order=2))):
        value = metric.corpus_score(list(hypotheses), [list(references)])
        result[name] = {"score": float(value.score), "signature": str(metric.get_signature())}
    return result
