"""Algorithm 1 over any number of small models, and its audit: of the positions certified, how many are answered otherwise.

Must never run a model: it takes predictions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_lottery.certification.certificate import Audit, Bound, Certificate, Level
from ks_lottery.certification.tau import full_verification, tau_of
from ks_lottery.certification.theorem import certified, half_gap, rule_half_gap
from ks_lottery.config.choices import RULES, TAUS
from ks_lottery.stats.intervals import clopper_pearson

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from ks_lottery.config.settings import CertifyConfig
    from ks_lottery.evaluation.predictions import Predictions
    from ks_lottery.tickets.scan import Scan


@dataclass(frozen=True)
class Small:
    """A small model: which rows of it are tuned, and what it answers.

    Parameters
    ----------
    name
        What it is called in the result.
    rows
        Rows that it has from tuning, shape (K,).
    predictions
        On the same text as the tuned model's.
    alpha
        Significance level at which its rows were selected; None where that is not how, and then only the empirical tau is
        defined.
    """

    name: str
    rows: npt.NDArray[np.int64]
    predictions: Predictions
    alpha: float | None = None


def certify_predictions(
    original: Predictions,
    tuned: Predictions,
    small: Sequence[Small],
    scan: Scan,
    *,
    config: CertifyConfig,
    name: str = "transfer",
) -> Certificate:
    """Certify small models against the tuned one, position by position, and audit the bound.

    Parameters
    ----------
    original, tuned
        Predictions of the original and of the embed-tuned model on the same text.
    small
        The small models.
    scan
        Original against embed-tuned; it gives the taus.
    config
        Kind of tau that is shown, and how many first positions of a sentence count.
    """
    original, tuned = original.head(config.positions), tuned.head(config.positions)
    gaps = {"tuned": half_gap(tuned), "original": half_gap(original)}
    levels: list[Level] = []
    tables: list[dict[str, npt.NDArray[Any]]] = []
    for one in small:
        answers = one.predictions.head(config.positions)
        bounds: dict[str, Bound] = {}
        marks: dict[str, npt.NDArray[np.bool_]] = {}
        for kind in TAUS if one.alpha is not None else TAUS[:1]:
            tau = tau_of(kind, scan, alpha=one.alpha, rows=one.rows)
            by_rule = {rule: certified(rule, original, tuned, tau) for rule in RULES}
            marks |= {f"{rule}_{kind}": mark for rule, mark in by_rule.items()}
            above = {rule: float((rule_half_gap(rule, original, tuned) > tau).mean()) for rule in RULES}
            bounds[kind] = Bound(tau, {rule: _audit(mark, above[rule], answers) for rule, mark in by_rule.items()})
        agreement = float((answers.first == tuned.first).mean())
        levels.append(Level(one.name, one.alpha, len(one.rows), answers.accuracy, agreement, bounds))
        none = np.zeros(len(tuned), dtype=bool)
        tables.append(
            {
                "model": np.full(len(tuned), one.name, dtype=object),
                "alpha": np.full(len(tuned), np.nan if one.alpha is None else one.alpha),
                "sentence": tuned.sentence,
                "position": tuned.position,
                "label": tuned.label,
                "tuned": tuned.first,
                "small": answers.first,
                **{f"half_gap_{name}": gap for name, gap in gaps.items()},
                **{f"{rule}_{kind}": marks.get(f"{rule}_{kind}", none) for kind in TAUS for rule in RULES},
            }
        )
    return Certificate(
        small=name,
        tau=config.tau,
        positions=len(tuned),
        sentences=len(np.unique(tuned.sentence)),
        counted={"bound": config.positions, "guarantee": None},
        original_accuracy=original.accuracy,
        tuned_accuracy=tuned.accuracy,
        half_gap_range=_range(gaps["tuned"]),
        full=full_verification(scan, float(gaps["tuned"].min())),
        original_half_gap_range=_range(gaps["original"]),
        original_full=full_verification(scan, float(gaps["original"].min())),
        levels=tuple(levels),
        columns={key: np.concatenate([table[key] for table in tables]) for key in tables[0]},
        made_from={"scan": dict(scan.made_from), "tuned": tuned.made_from},
    )


def _range(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _audit(mark: npt.NDArray[np.bool_], verified: float, answers: Predictions) -> Audit:
    positions = int(mark.sum())
    violations = int((mark & ~answers.correct).sum())
    rate = violations / positions if positions else 0.0
    return Audit(float(mark.mean()), verified, positions, violations, rate, clopper_pearson(violations, positions))
