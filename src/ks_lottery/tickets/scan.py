"""A scan: for each unit the integer KS count, D, p, how far it moved, and the rival scores; saved as one table."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_lottery.config.choices import SCORES
from ks_lottery.errors import UserError
from ks_lottery.report.notebook import Shown
from ks_lottery.stats.null import log_pvalues
from ks_lottery.stats.ranks import rank_fraction
from ks_lottery.store.content import ByContent, array_form, data_frame, digest_content
from ks_lottery.store.files import write_table
from ks_lottery.store.manifest import manifest
from ks_lottery.tickets import power, scan_groups, scan_sections
from ks_lottery.tickets.scan_table import UNCOMPARED, read_scan_table, table_columns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt
    from pandas import DataFrame

    from ks_lottery.report.section import Section


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
class Scan(ByContent, Shown):
    """Base against tuned, one entry for each of N units, tensor by tensor and in each by row.

    Two scans are equal when their parts and columns are.

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
    cos, absolute, absolute_signed, relative, kl
        Rival scores of appendix C, shape (N,): 1 - cosine of before and after; mean absolute change; mean change with its sign,
        which fits the column "Absolute" of table 3; mean of after / before; KL(softmax(after) || softmax(before)), which is our
        reading. NaN where not defined, and `absolute_signed` also in a scan that was saved before it had this column.
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
    absolute_signed: npt.NDArray[np.float64]
    relative: npt.NDArray[np.float64]
    kl: npt.NDArray[np.float64]
    made_from: Mapping[str, Any]
    settings: Mapping[str, Any]

    def __len__(self) -> int:
        """Return the number N of units."""
        return len(self.counts)

    def __repr__(self) -> str:
        tensors = self.parts[0].tensor if len(self.parts) == 1 else f"{len(self.parts)} tensors"
        return f"Scan({tensors}, counts={array_form(self.counts)}, {np.count_nonzero(self.moved):,} units moved)"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of parts and columns."""
        return digest_content([asdict(part) for part in self.parts], {name: getattr(self, name) for name in _COLUMNS})

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

    def only(self, tensor: str) -> Scan:
        """Return the scan of one of its tensors.

        Raises
        ------
        UserError
            When it has no such tensor.
        """
        part = next((part for part in self.parts if part.tensor == tensor), None)
        if part is None:
            raise UserError(
                f"the scan has no tensor {tensor}; it has {', '.join(part.tensor for part in self.parts[:5])}"
            )
        columns = {name: getattr(self, name)[self.units(part)] for name in _COLUMNS}
        # The shortfall of several tensors together is not that of one of them.
        settings = {key: value for key, value in self.settings.items() if key != "shortfall" or len(self.parts) == 1}
        return replace(self, parts=(replace(part, start=0),), settings=settings, **columns)

    def passing(self, alpha: float, correction: str = "none") -> npt.NDArray[np.int64]:
        """Return the units with p < alpha, by ascending p; ties by descending distance moved, then by ascending unit.

        Parameters
        ----------
        alpha
            From 0 (nothing) to 1 (every unit, by definition).
        correction
            One of `ks_lottery.config.choices.CORRECTIONS`; the paper's setting is ``none``.

        Raises
        ------
        UserError
            When alpha is out of range.
        """
        return power.passing(self, alpha, correction)

    def by_pvalue(self) -> npt.NDArray[np.int64]:
        """Return all units by ascending p; ties by descending distance moved, then by ascending unit."""
        return power.by_pvalue(self, np.arange(len(self), dtype=np.int64))

    def power(self, alpha: float, correction: str = "none") -> dict[str, Any]:
        """Say whether the test could see anything at `alpha` under a `correction`; see `ks_lottery.tickets.power.power`."""
        return power.power(self, alpha, correction)

    def summary(self, alpha: float, correction: str = "none") -> dict[str, Any]:
        """Return what was compared and came out at `alpha` under a `correction`; see `ks_lottery.tickets.power.summary`."""
        return power.summary(self, alpha, correction)

    def top(self, most: int, tokens: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Return the `most` units with the smallest p, those that did not move apart, in plain values; with `tokens`."""
        return scan_sections.top(self, most, tokens)

    def sections(
        self,
        alpha: float = 0.05,
        correction: str = "none",
        *,
        top: int = 30,
        tokens: Sequence[str] | None = None,
        only: Mapping[str, Sequence[tuple[int, str]]] | None = None,
    ) -> list[Section]:
        """Return the units with the smallest p as a table, and what was compared and what came out in sentences.

        Parameters
        ----------
        alpha, correction
            As for `passing`.
        top
            Number of units in the table (30).
        tokens
            Token strings of the rows of a vocabulary.
        only
            By ``base`` and ``tuned``, the rows that one side alone has, each with its token string.
        """
        groups = scan_groups.groups(self, self.passing(alpha, correction).tolist())
        return scan_sections.sections(self.summary(alpha, correction), groups, self.top(top, tokens), only)

    def to_pandas(self, tokens: Sequence[str] | None = None) -> DataFrame:
        """Return one row a unit: tensor, row, k, D, p, log p, moves, rival scores and ranks.

        Parameters
        ----------
        tokens
            Token strings of the rows of a vocabulary, for a column ``token``; None for none.

        Raises
        ------
        UserError
            When pandas is not installed.
        """
        columns = table_columns(self, tokens)
        return data_frame({**columns, "tensor": columns["tensor"].to_pandas()})

    def save(self, path: str | Path, tokens: Sequence[str] | None = None) -> Path:
        """Write one row a unit as Parquet, with the manifest in its metadata, and return the path.

        Parameters
        ----------
        path, tokens
            File to write, and token strings of the rows of a vocabulary, for the tensors that have as many rows.
        """
        settings = {**self.settings, "parts": [asdict(part) for part in self.parts]}
        about = manifest("scan", made_from=self.made_from, settings=settings)
        write_table(path := Path(path).expanduser(), table_columns(self, tokens), about)
        return path

    @classmethod
    def open(cls, path: str | Path) -> Scan:
        """Read what `save` wrote to `path`.

        Raises
        ------
        UserError
            When the file is missing, damaged, or not of a scan, or a column or its manifest is not that of one.
        """
        parts, columns, made_from, settings = read_scan_table(Path(path).expanduser())
        return cls(parts=tuple(Part(**part) for part in parts), **columns, made_from=made_from, settings=settings)

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


_COLUMNS = tuple(field.name for field in fields(Scan) if field.name not in {"parts", "made_from", "settings"})
