"""How often each token stands in the instruction, the source and the target of a training text: the origin of its row."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 (types of fields are read at run time)
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_lottery.config.choices import SPANS
from ks_lottery.errors import UserError
from ks_lottery.report.notebook import Shown
from ks_lottery.report.section import Column, Section
from ks_lottery.store.content import ByContent, digest_content
from ks_lottery.store.files import read_table, write_table
from ks_lottery.store.manifest import manifest
from ks_lottery.store.schema import MAKE_AGAIN

if TYPE_CHECKING:
    from collections import Counter

    import numpy.typing as npt

SPANS_FILE = "spans.parquet"


@dataclass(frozen=True, eq=False, repr=False)
class SpanCounts(ByContent, Shown):
    """One entry for each of K tokens that occur in a training text, ascending; every other token occurs 0 times.

    Two are equal when their counts are.

    Parameters
    ----------
    ids
        Tokens, which are rows of the embedding, shape (K,), ascending.
    counts
        For ``instruction``, ``source`` and ``target``: occurrences, shape (K,), int64.
    made_from
        Fingerprints.
    """

    ids: npt.NDArray[np.int64]
    counts: Mapping[str, npt.NDArray[np.int64]]
    made_from: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that all columns fit each other."""
        if self.ids.ndim != 1 or np.any(np.diff(self.ids) <= 0):
            raise ValueError("ids must be one-dimensional, ascending and unique")
        if list(self.counts) != list(SPANS) or any(column.shape != self.ids.shape for column in self.counts.values()):
            raise ValueError("counts must have one entry for each id, in each span")

    def __len__(self) -> int:
        """Return the number K of tokens."""
        return len(self.ids)

    def __repr__(self) -> str:
        totals = ", ".join(f"{int(column.sum()):,} in the {name}" for name, column in self.counts.items())
        return f"SpanCounts({len(self):,} tokens: {totals})"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of tokens and counts."""
        return digest_content("span-counts", {"ids": self.ids, **self.counts})

    def of(self, rows: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.int64]]:
        """Return by span how often the tokens of `rows`, shape (R,), occur, shape (R,)."""
        if not len(self):
            return {name: np.zeros(len(rows), dtype=np.int64) for name in self.counts}
        at = np.searchsorted(self.ids, rows).clip(max=len(self) - 1)
        known = self.ids[at] == rows
        return {name: np.where(known, column[at], 0) for name, column in self.counts.items()}

    def sections(self, most: int = 20) -> list[Section]:
        """Return the `most` tokens (20) that occur most, as a table."""
        order = np.argsort(-sum(self.counts.values(), np.zeros(len(self))), kind="stable")[:most].tolist()
        columns = [Column(title="row", form="d"), *(Column(title=name, form="integer") for name in SPANS)]
        rows = [[int(self.ids[i]), *(int(column[i]) for column in self.counts.values())] for i in order]
        return [Section(columns=columns, rows=rows, sentences=[repr(self)])]

    @classmethod
    def of_occurrences(cls, counted: Mapping[str, Counter[int]], made_from: Mapping[str, Any]) -> SpanCounts:
        """Return the counts of `ks_lottery.corpus.batches.span_occurrences`: by span, how often each token occurs."""
        ids = np.array(sorted(set().union(*counted.values())), dtype=np.int64)
        columns = {name: np.array([counted[name][t] for t in ids.tolist()], dtype=np.int64) for name in SPANS}
        return cls(ids, columns, made_from)

    def save(self, folder: str | Path) -> Path:
        """Write ``spans.parquet`` into `folder`, one line a token, its manifest in the metadata, and return its path."""
        path = Path(folder).expanduser() / SPANS_FILE
        about = manifest("span-counts", made_from=self.made_from, settings={})
        write_table(path, {"row": self.ids, **self.counts}, about)
        return path

    @classmethod
    def open(cls, folder: str | Path) -> SpanCounts:
        """Read the counts in the `folder` of a tuning, or the file itself.

        Raises
        ------
        UserError
            When it is missing or damaged.
        """
        folder = Path(folder).expanduser()
        path = folder / SPANS_FILE if folder.is_dir() else folder
        columns, about = read_table(path, "span-counts")
        try:
            counts = {name: columns[name].astype(np.int64) for name in SPANS}
            return cls(columns["row"].astype(np.int64), counts, about["made_from"])
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path}: the counts in it are not whole: {MAKE_AGAIN}") from error
