"""Algorithm 1 over a grid of alpha, and its audit: of the positions certified, how many the small model answers otherwise.

Must never call the bound a guarantee: it holds under the theorem's assumptions, which no deep network is known to meet.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_lottery.artifacts import manifest, write_json, write_table
from ks_lottery.certification.theorem import RULES, certified, half_gap
from ks_lottery.evaluation.next_token import predict
from ks_lottery.models.language_model import LabelledLanguageModel
from ks_lottery.models.sides import installed_patch
from ks_lottery.stats.bounds import clopper_pearson, tau_empirical, tau_exact, tau_table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from ks_lottery.checkpoint.patch import RowPatch
    from ks_lottery.config import CertifyConfig
    from ks_lottery.corpus.batches import Example
    from ks_lottery.evaluation.next_token import Predictions
    from ks_lottery.models.load import LoadedModel
    from ks_lottery.scans import Scan

MEANING = (
    "A bound under the assumptions of theorem 2 (each row's shift taken alone, a smooth model), not a guarantee; "
    "violations counts the certified positions that the small model answers differently."
)


@dataclass(frozen=True)
class Audit:
    """One rule at one alpha: what it certifies, and where the small model disagrees.

    Parameters
    ----------
    accuracy
        Certified accuracy: share of all positions that are certified.
    positions, violations
        Certified positions, and those of them that the small model answers differently.
    violation_interval
        95% Clopper-Pearson interval of their rate, as if positions were independent, which those of a sentence are not.
    """

    accuracy: float
    positions: int
    violations: int
    violation_interval: tuple[float, float]


@dataclass(frozen=True)
class Level:
    """The certificate at one alpha.

    Parameters
    ----------
    alpha, tickets, tau
        Significance level, rows with p < alpha, and the bound on the others.
    verified
        Share of positions whose half gap under the tuned model exceeds tau.
    prediction_accuracy
        Share of positions that the small model answers as the reference.
    agreement
        Share of positions that the small model answers as the tuned one.
    rules
        Audit by rule.
    """

    alpha: float
    tickets: int
    tau: float
    verified: float
    prediction_accuracy: float
    agreement: float
    rules: Mapping[str, Audit]


@dataclass(frozen=True)
class Certificate:
    """What is certified, per position and in sum, by which bound, with which tau, and what the audit found."""

    small: str
    tau: str
    positions: int
    original_accuracy: float
    tuned_accuracy: float
    half_gap_range: tuple[float, float]
    levels: tuple[Level, ...]
    columns: Mapping[str, npt.NDArray[Any]]
    made_from: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return the certificate in sum, without its positions."""
        content = {
            name: getattr(self, name)
            for name in ("small", "tau", "positions", "original_accuracy", "tuned_accuracy", "half_gap_range")
        }
        return {"meaning": MEANING, **content, "levels": [asdict(level) for level in self.levels]}

    def save(self, folder: Path, name: str = "certificate") -> None:
        """Write the sums as JSON and the positions as Parquet."""
        about = manifest("certificate", made_from=self.made_from, settings={"tau": self.tau, "small": self.small})
        write_json(folder / f"{name}.json", {**about, **self.as_dict()})
        write_table(folder / f"{name}.parquet", self.columns, about)


def tau_of(kind: str, alpha: float, scan: Scan) -> float:
    """Return tau(alpha), the bound on the KS distance of every row that is not selected at `alpha`.

    Parameters
    ----------
    kind
        ``empirical``: the largest D among the rows not selected. ``exact``: the smallest D with exact p below alpha.
        ``table``: c(alpha) sqrt(2/d), as in theorem 1.
    """
    if kind == "empirical":
        unselected = np.ones(len(scan), dtype=bool)
        unselected[scan.passing(alpha)] = False
        return tau_empirical(scan.statistics[unselected])
    if alpha in {
        0,
        1,
    }:  # c(0) is infinite: nothing is certified; at 1 every row is selected: nothing is left to bound
        return 1.0 - alpha
    return {"exact": tau_exact, "table": tau_table}[kind](alpha, scan.width)


def certify(
    original: Predictions,
    tuned: Predictions,
    small: Sequence[tuple[float, Predictions]],
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
        For each alpha, the predictions of the small model with the tickets of that alpha.
    scan
        Original against embed-tuned; it gives the tickets and tau of each alpha.
    config
        Kind of tau, and how many first positions of a sentence count.
    """
    original, tuned = original.head(config.positions), tuned.head(config.positions)
    levels: list[Level] = []
    tables: list[dict[str, npt.NDArray[Any]]] = []
    for alpha, predictions in small:
        answers = predictions.head(config.positions)
        tau = tau_of(config.tau, alpha, scan)
        marks = {rule: certified(rule, original, tuned, tau) for rule in RULES}
        levels.append(
            Level(
                alpha=alpha,
                tickets=len(scan.passing(alpha)),
                tau=tau,
                verified=float((half_gap(tuned) > tau).mean()),
                prediction_accuracy=answers.accuracy,
                agreement=float((answers.first == tuned.first).mean()),
                rules={rule: _audit(mark, answers) for rule, mark in marks.items()},
            )
        )
        tables.append(
            {
                "alpha": np.full(len(tuned), alpha),
                "sentence": tuned.sentence,
                "position": tuned.position,
                "label": tuned.label,
                "tuned": tuned.first,
                "small": answers.first,
                "half_gap_tuned": half_gap(tuned),
                "half_gap_original": half_gap(original),
                **marks,
            }
        )
    gaps = half_gap(tuned)
    return Certificate(
        small=name,
        tau=config.tau,
        positions=len(tuned),
        original_accuracy=original.accuracy,
        tuned_accuracy=tuned.accuracy,
        half_gap_range=(float(gaps.min()), float(gaps.max())),
        levels=tuple(levels),
        columns={key: np.concatenate([table[key] for table in tables]) for key in tables[0]},
        made_from={"scan": dict(scan.made_from), "tuned": tuned.made_from},
    )


def _audit(mark: npt.NDArray[np.bool_], answers: Predictions) -> Audit:
    positions = int(mark.sum())
    violations = int((mark & ~answers.correct).sum())
    return Audit(float(mark.mean()), positions, violations, clopper_pearson(violations, positions))


def transfer_predictions(
    loaded: LoadedModel,
    tuned: RowPatch,
    scan: Scan,
    examples: Sequence[Example],
    *,
    alphas: Sequence[float],
    known: Mapping[str, Predictions],
    batch_size: int = 16,
    share_prefix: bool = True,
    tick: Callable[[int, int], None] | None = None,
) -> list[tuple[float, Predictions]]:
    """Predict with the partial transfer of each alpha; equal ticket sets are computed once.

    Parameters
    ----------
    known
        Predictions by content of their patch, so that those of the original and of the tuned model are taken over.
    tick
        Called with levels done and levels in all.
    """
    done = dict(known)
    result: list[tuple[float, Predictions]] = []
    model = LabelledLanguageModel(loaded.lm, share_prefix=share_prefix)
    for number, alpha in enumerate(alphas):
        patch = tuned.restrict(np.sort(scan.passing(alpha)))
        if patch.content not in done:
            made = {"base": patch.base["fingerprint"], "patch": patch.content}
            with installed_patch(loaded.lm, patch):
                done[patch.content] = predict(model, examples, batch_size=batch_size, made_from=made)
        result.append((alpha, done[patch.content]))
        if tick:
            tick(number + 1, len(alphas))
    return result
