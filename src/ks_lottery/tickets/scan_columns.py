"""The columns of a scan, one entry a unit, and what follows from them: D, p, ranks, and which unit is of which tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_lottery.config.choices import SCORES
from ks_lottery.errors import UserError
from ks_lottery.stats.null import log_pvalues
from ks_lottery.stats.ranks import rank_fraction
from ks_lottery.tickets.scan_table import UNCOMPARED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt


@dataclass(frozen=True, kw_only=True)
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


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ScanColumns:
    """Base against tuned, one entry for each of N units, tensor by tensor and in each by row.

    `ks_lottery.tickets.scan.Scan` says what each of them is.
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
    absolute_signed: npt.NDArray[np.float64]
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
        return np.concatenate([self.counts[self.units(part)] / part.width for part in self.parts])

    @property
    def log_pvalues(self) -> npt.NDArray[np.float64]:
        """Exact log p of each unit; p itself underflows."""
        return np.concatenate([log_pvalues(part.width)[self.counts[self.units(part)]] for part in self.parts])

    @property
    def pvalues(self) -> npt.NDArray[np.float64]:
        """Exact p of each unit."""
        return np.exp(self.log_pvalues)

    @staticmethod
    def units(part: Part) -> slice:
        """Return where the units of a part are in the columns."""
        return slice(part.start, part.start + part.count)

    def part_of(self, unit: int) -> Part:
        """Return the part that a unit is in."""
        return next(part for part in self.parts if part.start <= unit < part.start + part.count)

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """Row of each unit in its tensor."""
        return np.concatenate([np.arange(part.count, dtype=np.int64) for part in self.parts])

    @property
    def ratio(self) -> npt.NDArray[np.float64]:
        """Mean of (after - before) / before, signed: `relative` less 1, so that their ranks agree."""
        return self.relative - 1

    def score(self, name: str) -> npt.NDArray[np.float64]:
        """Return one of `SCORES` by its `name`, shape (N,)."""
        if name not in SCORES:
            raise UserError(f"score {name} is not known; there are {', '.join(SCORES)}")
        return self.statistics if name == "ks" else getattr(self, name.replace("-", "_"))

    def rank(self, name: str) -> npt.NDArray[np.float64]:
        """Return rank / V of each unit in its tensor by the score `name`, 1 / V for the first; ties averaged (table 3).

        Units whose score is not defined get NaN.
        """
        score = self.score(name)
        return np.concatenate([rank_fraction(score[self.units(part)]) for part in self.parts])

    def tokens_of(self, part: Part, tokens: Sequence[str]) -> Sequence[str]:
        """Return the token string of each unit of a part; empty where its rows are no tokens."""
        return tokens[: part.count] if len(tokens) >= part.count > 1 and self.is_vocabulary(part) else [""] * part.count

    @property
    def uncompared(self) -> list[str]:
        """Tensors that were not compared: one side alone has them, or they do not fit each other."""
        return [name for key in UNCOMPARED for name in self.settings.get(key, ())]

    def is_vocabulary(self, part: Part) -> bool:
        """Say whether the rows of a part are tokens."""
        return part.tensor in self.settings.get("vocabulary", ())
