"""Selectors: from a saved scan, a frequency count or a seed to an ordered set of rows.

Must never train or read a model.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_lottery.artifacts import manifest, read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from ks_lottery.scans import Scan


@dataclass(frozen=True)
class Tickets:
    """An ordered set of rows, and the rule that chose it.

    Parameters
    ----------
    rows
        Rows, the most important first, shape (K,).
    rule
        Selector and its settings.
    scores
        What the selector knew of each row, one mapping a row.
    made_from
        Fingerprints.
    """

    rows: npt.NDArray[np.int64]
    rule: Mapping[str, Any]
    scores: Sequence[Mapping[str, Any]] = ()
    made_from: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number K of rows."""
        return len(self.rows)

    @property
    def ids(self) -> npt.NDArray[np.int64]:
        """The rows in ascending order, as patches and row modules take them."""
        return np.sort(self.rows)

    def save(self, path: Path, tokens: Sequence[str] | None = None) -> None:
        """Write the rows with their scores, and their token strings if given, as JSON."""
        listed: list[dict[str, Any]] = []
        for position, row in enumerate(self.rows.tolist()):
            token = {} if tokens is None else {"token": tokens[row]}
            listed.append({"row": row, **token, **(self.scores[position] if self.scores else {})})
        write_json(path, {**manifest("tickets", made_from=self.made_from, settings=self.rule), "rows": listed})

    @classmethod
    def open(cls, path: Path) -> Tickets:
        """Read what `save` wrote."""
        about = read_json(path, "tickets")
        scores = [{k: v for k, v in row.items() if k not in {"row", "token"}} for row in about["rows"]]
        rows = np.array([row["row"] for row in about["rows"]], dtype=np.int64)
        return cls(rows, about["settings"], scores, about["made_from"])


def select(scan: Scan, *, alpha: float = 0.05) -> Tickets:
    """Select the winning tickets: rows with p < alpha (section 3.1 of the paper), by ascending p.

    `alpha` is a threshold on a distance here, not an error rate: the samples are one row before and after.

    Parameters
    ----------
    alpha
        From 0 (nothing) to 1 (every row, by definition).
    """
    rows = scan.passing(alpha)
    logs, statistics = scan.log_pvalues, scan.statistics
    scores = [
        {
            "count": int(scan.counts[row]),
            "statistic": float(statistics[row]),
            "pvalue": float(np.exp(logs[row])),
            "log_pvalue": float(logs[row]),
        }
        for row in rows
    ]
    return Tickets(rows, {"selector": "ks", "alpha": alpha}, scores, scan.made_from)


def select_random(pool: npt.NDArray[np.int64], size: int, *, seed: int, reachable: bool) -> Tickets:
    """Draw `size` rows from `pool` without replacement, the same ones for the same seed.

    Parameters
    ----------
    reachable
        Whether `pool` is the reachable rows (the fair rival) or the whole vocabulary (the paper's).
    """
    drawn = np.random.default_rng(seed).choice(pool, size=min(size, len(pool)), replace=False)
    selector = "random-reachable" if reachable else "random"
    return Tickets(drawn.astype(np.int64), {"selector": selector, "size": size, "seed": seed})


def select_by_occurrence(counts: Mapping[int, int], pool: npt.NDArray[np.int64], size: int) -> Tickets:
    """Take the `size` rows of `pool` that occur most in the rendered training examples; ties go to the lower row.

    Template and source count too: this is not the frequency of the paper's table 3, which is of a corpus.
    """
    order = sorted((int(row) for row in pool), key=lambda row: (-counts.get(row, 0), row))[:size]
    scores = [{"occurrences": int(counts.get(row, 0))} for row in order]
    return Tickets(np.array(order, dtype=np.int64), {"selector": "occurrence", "size": size}, scores)
