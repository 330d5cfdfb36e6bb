"""What fine-tuning changed: for each row of the embedding, the exact KS count and how far it moved.

Must never hold both matrices whole: rows are read in blocks, and rows that a patch leaves alone are not read at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_lottery.artifacts import manifest, read_table, write_table
from ks_lottery.checkpoint.patch import RowPatch
from ks_lottery.errors import UserError
from ks_lottery.stats.ks import ks_counts
from ks_lottery.stats.null import critical_count, log_pvalues

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt
    import torch

    from ks_lottery.checkpoint.reader import Checkpoint

BLOCK = 4096
"""Rows compared at a time."""


@dataclass(frozen=True)
class Scan:
    """Base against tuned, one entry for each of the V rows of the embedding.

    Parameters
    ----------
    width
        Coordinates d of a row, the size of both samples.
    counts
        Integer KS counts k, shape (V,); D = k / d.
    moved
        Coordinates that changed, shape (V,).
    distance
        Euclidean length of the move, shape (V,).
    largest
        Largest absolute change of a coordinate, shape (V,).
    spread
        Mean absolute change over the standard deviation of the row before, shape (V,): what the test can see. Infinite
        for a constant row that moved, and 0 for any row that did not.
    made_from, settings
        Fingerprints and settings.
    """

    width: int
    counts: npt.NDArray[np.int64]
    moved: npt.NDArray[np.int64]
    distance: npt.NDArray[np.float64]
    largest: npt.NDArray[np.float64]
    spread: npt.NDArray[np.float64]
    made_from: Mapping[str, Any]
    settings: Mapping[str, Any]

    def __len__(self) -> int:
        """Return the number V of rows."""
        return len(self.counts)

    @property
    def statistics(self) -> npt.NDArray[np.float64]:
        """D of each row."""
        return self.counts / self.width

    @property
    def log_pvalues(self) -> npt.NDArray[np.float64]:
        """Exact log p of each row; p itself underflows."""
        return log_pvalues(self.width)[self.counts]

    @property
    def pvalues(self) -> npt.NDArray[np.float64]:
        """Exact p of each row."""
        return np.exp(self.log_pvalues)

    def passing(self, alpha: float) -> npt.NDArray[np.int64]:
        """Return the rows with p < alpha, by descending count, then ascending row."""
        rows = np.flatnonzero(self.counts >= critical_count(self.width, alpha))
        return rows[np.argsort(-self.counts[rows], kind="stable")]

    def power(self, alpha: float) -> dict[str, float | int]:
        """Say whether the test could see anything: the critical D against the largest there is.

        Returns
        -------
        dict
            ``rows_moved``, ``rows_passing``, ``critical_statistic`` (smallest D with p < alpha), ``largest_statistic``,
            ``largest_spread`` (largest mean move of a row over its standard deviation, constant rows apart).
        """
        return {
            "alpha": alpha,
            "rows_moved": int(np.count_nonzero(self.moved)),
            "rows_passing": len(self.passing(alpha)),
            "critical_statistic": min(1.0, critical_count(self.width, alpha) / self.width),
            "largest_statistic": float(self.statistics.max(initial=0.0)),
            "largest_spread": float(self.spread[np.isfinite(self.spread)].max(initial=0.0)),
        }

    def save(self, path: Path, tokens: Sequence[str] | None = None) -> None:
        """Write one row a unit as Parquet, with the manifest in its metadata."""
        columns: dict[str, Any] = {"row": np.arange(len(self), dtype=np.int64)}
        if tokens is not None:
            columns["token"] = list(tokens)
        columns |= {
            "count": self.counts,
            "statistic": self.statistics,
            "pvalue": self.pvalues,
            "log_pvalue": self.log_pvalues,
            "moved": self.moved,
            "distance": self.distance,
            "largest": self.largest,
            "spread": self.spread,
        }
        settings = {**self.settings, "width": self.width}
        write_table(path, columns, manifest("scan", made_from=self.made_from, settings=settings))

    @classmethod
    def open(cls, path: Path) -> Scan:
        """Read what `save` wrote."""
        columns, about = read_table(path, "scan")
        names = ("counts", "moved", "distance", "largest", "spread")
        arrays = {name: columns["count" if name == "counts" else name] for name in names}
        return cls(
            int(about["settings"]["width"]),
            **arrays,
            made_from=about["made_from"],
            settings=about["settings"],
        )


def scan(base: Checkpoint, tuned: RowPatch | Checkpoint) -> Scan:
    """Test each row of the input embedding, before against after (section 3.1 of the paper).

    The two samples of a test are the d coordinates of a row in `base` and in `tuned`; both are compared in float32. Rows
    that a patch does not hold are the base's bit for bit: their count is 0 without a look.

    Raises
    ------
    UserError
        When the two do not fit each other, or a row holds NaN.
    """
    count, width = base.vocabulary, base.width
    result: dict[str, npt.NDArray[Any]] = {
        "counts": np.zeros(count, dtype=np.int64),
        "moved": np.zeros(count, dtype=np.int64),
        "distance": np.zeros(count),
        "largest": np.zeros(count),
        "spread": np.zeros(count),
    }
    if isinstance(tuned, RowPatch):
        tuned.check_base(base)
        ids, made = tuned.ids, {"base": base.describe(), "patch": tuned.content}
    else:
        if (tuned.vocabulary, tuned.width) != (count, width):
            raise UserError(
                f"{base.name} has an embedding of {count:,} x {width:,}, {tuned.name} one of "
                f"{tuned.vocabulary:,} x {tuned.width:,}: they cannot be compared row by row"
            )
        ids, made = np.arange(count, dtype=np.int64), {"base": base.describe(), "tuned": tuned.describe()}
    for start in range(0, len(ids), BLOCK):
        block = ids[start : start + BLOCK]
        after = tuned.values[start : start + BLOCK] if isinstance(tuned, RowPatch) else tuned.rows(block)
        _compare(base.rows(block), after, block, result, base.name)
    return Scan(width, **result, made_from=made, settings={"units": "embedding rows", "compared_as": "float32"})


def _compare(
    before: torch.Tensor,
    after: torch.Tensor,
    block: npt.NDArray[np.int64],
    result: Mapping[str, Any],
    name: str,
) -> None:
    a, b = before.numpy(), after.numpy()
    bad = np.flatnonzero(np.isnan(a).any(axis=1) | np.isnan(b).any(axis=1))
    if len(bad):
        raise UserError(
            f"{name} or its tuned rows hold NaN in row {block[bad[0]]}: the training diverged, or a file is damaged"
        )
    move = np.abs(b.astype(np.float64) - a)
    deviation = a.std(axis=1, dtype=np.float64)
    result["counts"][block] = ks_counts(a, b)
    result["moved"][block] = np.count_nonzero(a != b, axis=1)
    result["distance"][block] = np.sqrt((move**2).sum(axis=1))
    result["largest"][block] = move.max(axis=1)
    mean = move.mean(axis=1)
    result["spread"][block] = np.divide(mean, deviation, out=np.where(mean > 0, np.inf, 0.0), where=deviation > 0)
