"""A scan: for each unit the integer KS count, D, p, how far it moved, and the rival scores; saved as one table.

Must never hold a p-value that was rounded away: p underflows, log p and the count do not.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_lottery.errors import UserError
from ks_lottery.stats.multiplicity import adjust
from ks_lottery.stats.null import critical_count, log_pvalues
from ks_lottery.store.files import manifest, read_table, write_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

SCORES = ("ks", "cos", "absolute", "relative", "ratio", "kl")
"""What units can be ranked by, each larger where it is more important: D, and the five rivals of appendix C of the paper."""

POWER_ALPHAS = (0.05, 0.5, 0.9)
"""Significance levels that a summary speaks of, beside the one that was asked for."""


@dataclass(frozen=True)
class Part:
    """The units of one tensor: they are ``start`` to ``start + count`` of the scan, each of ``width`` coordinates.

    ``removed`` and ``added`` are rows beyond the common ones, which were not compared.
    """

    tensor: str
    start: int
    count: int
    width: int
    compared_as: str
    removed: int = 0
    added: int = 0


@dataclass(frozen=True)
class Scan:
    """Base against tuned, one entry for each of N units, tensor by tensor and in each by row.

    Parameters
    ----------
    parts
        The tensors. A scan of one embedding has one, and its unit i is row i.
    counts
        Integer KS counts k, shape (N,); D = k / d.
    moved
        Coordinates that changed, shape (N,).
    zeros
        Coordinates that are 0 before and so have no part in `relative`, shape (N,); not counted in rows that a patch
        leaves alone.
    distance
        Euclidean length of the move, shape (N,).
    largest
        Largest absolute change of a coordinate, shape (N,).
    spread
        Mean absolute change over the standard deviation of the unit before, shape (N,): what the test can see. Infinite for a
        constant unit that moved, and 0 for any that did not.
    cos, absolute, relative, kl
        Rival scores of appendix C, shape (N,): 1 - cosine of before and after; mean absolute change; mean of after / before;
        KL(softmax(after) || softmax(before)), which is our reading. NaN where not defined.
    made_from, settings
        Fingerprints and settings.
    """

    parts: tuple[Part, ...]
    counts: npt.NDArray[np.int64]
    moved: npt.NDArray[np.int64]
    zeros: npt.NDArray[np.int64]
    distance: npt.NDArray[np.float64]
    largest: npt.NDArray[np.float64]
    spread: npt.NDArray[np.float64]
    cos: npt.NDArray[np.float64]
    absolute: npt.NDArray[np.float64]
    relative: npt.NDArray[np.float64]
    kl: npt.NDArray[np.float64]
    made_from: Mapping[str, Any]
    settings: Mapping[str, Any]

    def __len__(self) -> int:
        """Return the number N of units."""
        return len(self.counts)

    @property
    def width(self) -> int:
        """Coordinates d of a unit, the size of both samples.

        Raises
        ------
        UserError
            When the tensors differ in it.
        """
        widths = {part.width for part in self.parts}
        if len(widths) != 1:
            raise UserError("the scan holds tensors of different width: take one of them, such as the embedding")
        return widths.pop()

    @property
    def statistics(self) -> npt.NDArray[np.float64]:
        """D of each unit."""
        return np.concatenate([self.counts[self._slice(part)] / part.width for part in self.parts])

    @property
    def log_pvalues(self) -> npt.NDArray[np.float64]:
        """Exact log p of each unit; p itself underflows."""
        return np.concatenate([log_pvalues(part.width)[self.counts[self._slice(part)]] for part in self.parts])

    @property
    def pvalues(self) -> npt.NDArray[np.float64]:
        """Exact p of each unit."""
        return np.exp(self.log_pvalues)

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """Row of each unit in its tensor."""
        return np.concatenate([np.arange(part.count, dtype=np.int64) for part in self.parts])

    @property
    def ratio(self) -> npt.NDArray[np.float64]:
        """Mean of (after - before) / before, signed: `relative` less 1, so that their ranks agree."""
        return self.relative - 1

    def score(self, name: str) -> npt.NDArray[np.float64]:
        """Return one of `SCORES`."""
        if name not in SCORES:
            raise UserError(f"score {name} is not known; there are {', '.join(SCORES)}")
        return self.statistics if name == "ks" else getattr(self, name)

    def only(self, tensor: str) -> Scan:
        """Return the scan of one of its tensors.

        Raises
        ------
        UserError
            When it has no such tensor.
        """
        found = next((part for part in self.parts if part.tensor == tensor), None)
        if found is None:
            raise UserError(
                f"the scan has no tensor {tensor}; it has {', '.join(part.tensor for part in self.parts[:5])}"
            )
        columns = {name: getattr(self, name)[self._slice(found)] for name in _COLUMNS}
        return replace(self, parts=(replace(found, start=0),), **columns)

    def passing(self, alpha: float, correction: str = "none") -> npt.NDArray[np.int64]:
        """Return the units with p < alpha, by ascending p, then ascending unit.

        Parameters
        ----------
        correction
            One of `ks_lottery.stats.multiplicity.CORRECTIONS`; the paper's setting is ``none``.
        """
        if correction == "none":
            critical = np.concatenate([np.full(part.count, critical_count(part.width, alpha)) for part in self.parts])
            units = np.flatnonzero(self.counts >= critical)
        else:
            units = np.flatnonzero(adjust(self.log_pvalues, correction) < math.log(alpha) if alpha > 0 else [])
        return units[np.argsort(self.log_pvalues[units], kind="stable")]

    def power(self, alpha: float, correction: str = "none") -> dict[str, Any]:
        """Say whether the test could see anything: the critical D against the largest there is.

        Returns
        -------
        dict
            ``alpha``, ``rows_moved``, ``rows_passing``, ``critical_statistic`` (smallest D with p < alpha, at the width of the
            unit with the smallest p), ``largest_statistic``, ``largest_spread`` (largest mean move of a unit over its
            standard deviation, constant units apart), and ``needed``: by which factor the moves, and so about lr x
            steps, fall short of the critical D (D grows in proportion to a small move); None where something passes or
            nothing moved.
        """
        first = int(np.argmin(self.log_pvalues))
        width = next(part.width for part in self.parts if part.start <= first < part.start + part.count)
        critical = min(1.0, critical_count(width, alpha) / width)
        passing, largest = len(self.passing(alpha, correction)), float(self.statistics[first])
        return {
            "alpha": alpha,
            "rows_moved": int(np.count_nonzero(self.moved)),
            "rows_passing": passing,
            "critical_statistic": critical,
            "largest_statistic": largest,
            "largest_spread": float(self.spread[np.isfinite(self.spread)].max(initial=0.0)),
            "needed": None if passing or largest == 0 else critical / largest,
        }

    def summary(self, alpha: float, correction: str = "none") -> dict[str, Any]:
        """Return what was compared and what came out, in plain values.

        ``levels`` has the critical D, at the width of the unit with the smallest p, and how many units pass, at `alpha` and at
        each of `POWER_ALPHAS`.
        """
        levels = [self.power(a, correction) for a in dict.fromkeys([alpha, *POWER_ALPHAS])]
        return {
            "units": len(self),
            "tensors": len(self.parts),
            "compared_as": sorted({part.compared_as for part in self.parts}),
            "removed": {part.tensor: part.removed for part in self.parts if part.removed},
            "added": {part.tensor: part.added for part in self.parts if part.added},
            "only_in_base": self.settings.get("only_in_base", []),
            "only_in_tuned": self.settings.get("only_in_tuned", []),
            "correction": correction,
            **self.power(alpha, correction),
            "levels": [
                {name: level[name] for name in ("alpha", "critical_statistic", "rows_passing")} for level in levels
            ],
        }

    def top(self, most: int, tokens: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Return the units with the smallest p, those that did not move apart, in plain values."""
        log_p = self.log_pvalues
        order = np.lexsort((np.arange(len(self)), -self.distance, log_p))[:most]
        found: list[dict[str, Any]] = []
        for unit in order[self.moved[order] > 0].tolist():
            part = next(p for p in self.parts if p.start <= unit < p.start + p.count)
            row = unit - part.start
            token = {} if tokens is None else {"token": self.tokens_of(part, tokens)[row]}
            values = {name: _plain(self.score(name)[unit]) for name in SCORES if name != "ks"}
            found.append(
                {
                    "tensor": part.tensor,
                    "row": row,
                    **token,
                    "count": int(self.counts[unit]),
                    "width": part.width,
                    "statistic": float(self.counts[unit] / part.width),
                    "pvalue": float(np.exp(log_p[unit])),
                    "log_pvalue": float(log_p[unit]),
                    "moved": int(self.moved[unit]),
                    "distance": _plain(self.distance[unit]),
                    "largest": _plain(self.largest[unit]),
                    "spread": _plain(self.spread[unit]),
                    **values,
                }
            )
        return found

    def save(self, path: Path, tokens: Sequence[str] | None = None) -> None:
        """Write one row a unit as Parquet, with the manifest in its metadata.

        Parameters
        ----------
        tokens
            Token strings of the rows of a vocabulary, for the tensors that have as many rows.
        """
        import pyarrow as pa

        names = pa.array([part.tensor for part in self.parts])
        place = np.concatenate([np.full(part.count, i, dtype=np.int32) for i, part in enumerate(self.parts)])
        columns: dict[str, Any] = {"tensor": pa.DictionaryArray.from_arrays(place, names), "row": self.rows}
        if tokens is not None:
            columns["token"] = [text for part in self.parts for text in self.tokens_of(part, tokens)]
        columns |= {
            "count": self.counts,
            "statistic": self.statistics,
            "pvalue": self.pvalues,
            "log_pvalue": self.log_pvalues,
            **{name: getattr(self, name) for name in _COLUMNS if name != "counts"},
            "ratio": self.ratio,
            **{f"rank_{name}": self.rank(name) for name in SCORES},
        }
        settings = {**self.settings, "parts": [asdict(part) for part in self.parts]}
        write_table(path, columns, manifest("scan", made_from=self.made_from, settings=settings))

    @classmethod
    def open(cls, path: Path) -> Scan:
        """Read what `save` wrote."""
        columns, about = read_table(path, "scan")
        settings = dict(about["settings"])
        parts = tuple(Part(**part) for part in settings.pop("parts"))
        arrays = {name: columns["count" if name == "counts" else name] for name in _COLUMNS}
        return cls(parts, **arrays, made_from=about["made_from"], settings=settings)

    def rank(self, name: str) -> npt.NDArray[np.float64]:
        """Return rank / V of each unit within its tensor by a score, 1 / V for the most important (table 3); ties averaged.

        Units whose score is not defined get NaN.
        """
        score = self.score(name)
        ranks = np.empty(len(self))
        for part in self.parts:
            ranks[self._slice(part)] = rank_fraction(score[self._slice(part)])
        return ranks

    def tokens_of(self, part: Part, tokens: Sequence[str]) -> Sequence[str]:
        """Return the token string of each unit of a part; empty where its rows are no tokens."""
        return tokens[: part.count] if len(tokens) >= part.count > 1 and self.is_vocabulary(part) else [""] * part.count

    def is_vocabulary(self, part: Part) -> bool:
        """Say whether the rows of a part are tokens."""
        return part.tensor in self.settings.get("vocabulary", ())

    def _slice(self, part: Part) -> slice:
        return slice(part.start, part.start + part.count)


_COLUMNS = tuple(field.name for field in fields(Scan) if field.name not in {"parts", "made_from", "settings"})


def _plain(value: Any) -> float | None:
    """Return a number that JSON has."""
    return float(value) if math.isfinite(value) else None


def average_ranks(score: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return ranks by falling score, 1 for the largest, ties averaged; NaN keeps NaN, and counts as least important.

    >>> average_ranks(np.array([1.0, 5.0, 1.0, 0.0])).tolist()
    [2.5, 1.0, 2.5, 4.0]
    """
    ranks = np.full(len(score), np.nan)
    known = np.flatnonzero(~np.isnan(score))
    _, place, count = np.unique(-score[known], return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    ranks[known] = ((last - count + 1 + last) / 2)[place]
    return ranks


def rank_fraction(score: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return `average_ranks` over the number of scores: rank / V, as in table 3 of the paper.

    >>> rank_fraction(np.array([1.0, 5.0, 1.0, 0.0])).tolist()
    [0.625, 0.25, 0.625, 1.0]
    """
    return average_ranks(score) / len(score)
