"""Rows of a score table: one system with one set of embedding rows over all seeds, and its means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ks_lottery.recipes.paper import paper_table
from ks_lottery.recipes.system_comparison import compare_systems, paired, same_positions
from ks_lottery.recipes.table_scale import paper_model

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ks_lottery.stats.crossed import CrossedDifference
    from ks_lottery.store.cells import FinishedCell

Values = list[float]

FIRST = ("original", "full", "qlora", "lora", "prefix", "prompt", "embed")
"""Systems that need no set of rows, in the order of the tables."""

SETS_FIRST = ("random", "random-reachable", "partial", "transfer", "frequency", "frozen", "frozen-random")
"""Systems of each set of rows, in the order of the tables."""

NAMES = {
    "original": "original model", "full": "full tuning", "qlora": "QLoRA", "lora": "LoRA", "prefix": "prefix tuning",
    "prompt": "prompt tuning", "embed": "embed tuning", "random": "random rows", "random-reachable": "random reachable rows",
    "partial": "partial tuning", "transfer": "partial transfer", "frequency": "frequency tuning",
    "frozen": "all but the tickets", "frozen-random": "all but random reachable rows",
}  # fmt: skip
"""What the tables call a system."""


@dataclass(frozen=True, kw_only=True)
class ScoreRow:
    """One system with one set of rows, over all seeds.

    Parameters
    ----------
    system
        A key of `NAMES`.
    set_name
        What the set of rows is called, such as ``p < 0.05``; None for systems without one.
    cells
        One cell a seed, in ascending order.
    """

    system: str
    set_name: str | None
    cells: Sequence[FinishedCell]

    @property
    def name(self) -> str:
        """What sentences and figures call it."""
        return NAMES[self.system] + ("" if self.set_name is None else f", {self.set_name}")

    @property
    def tokens(self) -> Values | None:
        """Number of its rows with each seed; None for products that have none."""
        found = [cell.figures["rows"] for cell in self.cells]
        return None if self.set_name is None or None in found else [float(rows) for rows in found]

    @property
    def is_empty(self) -> bool:
        """Whether its set has no row with any seed, so that it is the original model."""
        return self.tokens is not None and not any(self.tokens)

    @property
    def accuracies(self) -> Values:
        """Next-token accuracy with each seed."""
        return [cell.figures["accuracy"] for cell in self.cells]

    @property
    def translated(self) -> list[FinishedCell]:
        """Cells of the seeds that translated."""
        return [cell for cell in self.cells if cell.figures.get("scores")]

    def scores(self, metric: str, part: str = "scores") -> Values:
        """Return a score of the translations of each seed that translated; empty where it could not be computed."""
        metrics = [cell.figures[part]["metrics"] for cell in self.translated]
        return [found[metric]["score"] for found in metrics if metric in found]


def whole(values: Sequence[float] | None) -> int | str | None:
    """Return a number that several seeds have, or the range of theirs.

    >>> whole([3.0, 3.0]), whole([3.0, 5.0]), whole([0.0]), whole(None)
    (3, '3 to 5', 0, None)
    """
    if not values:
        return None
    low, high = int(min(values)), int(max(values))
    return low if low == high else f"{low:,} to {high:,}"


def score_rows(cells: Sequence[FinishedCell]) -> list[ScoreRow]:
    """Return the rows of one model and pair, in the order of the tables: systems without a set, then set by set."""
    groups: dict[tuple[str | None, str], list[FinishedCell]] = {}
    for cell in cells:
        groups.setdefault((cell.about["set"], cell.about["system"]), []).append(cell)
    sets = list(dict.fromkeys(name for name, _ in groups))
    order = (*FIRST, *SETS_FIRST)
    keys = sorted(groups, key=lambda key: (sets.index(key[0]) if key[0] is not None else -1, order.index(key[1])))
    return [
        ScoreRow(system=key[1], set_name=key[0], cells=sorted(groups[key], key=lambda cell: cell.about["seed"] or 0))
        for key in keys
    ]


def row_of(rows: Sequence[ScoreRow], system: str, set_name: str | None = None) -> ScoreRow | None:
    """Return the row of a system; None where there is none."""
    return next((row for row in rows if (row.system, row.set_name) == (system, set_name)), None)


def shared_seeds(one: ScoreRow, other: ScoreRow) -> tuple[list[FinishedCell], list[FinishedCell]]:
    """Return the cells of two rows that have the same seeds; a row without seed, or with one alone, goes with every other."""
    if len(one.cells) == 1 or len(other.cells) == 1:
        return list(one.cells), list(other.cells)
    return paired(one.cells, other.cells)


def difference_of(one: ScoreRow, other: ScoreRow, metric: str, resamples: int) -> CrossedDifference | None:
    """Return a metric of one row less that of another; None where they share no seed, or answer other tokens."""
    first, second = shared_seeds(one, other)
    if not first or not second or not same_positions([*first, *second]):
        return None
    return compare_systems(first, second, metric, resamples=resamples)


def paper_values(table: str | None, model: str, column: str) -> Callable[[ScoreRow], Any]:
    """Return what finds the paper's figure that stands beside a row; it finds None where the paper has none."""
    found = None if table is None else paper_table(table)
    about = {"model": paper_model(model)}

    def value(row: ScoreRow) -> Any:
        if found is None:
            return None
        more = {"set": row.set_name} if any("set" in entry for entry in found.rows) else {}
        return found.value(column, **about, system=row.system, **more)

    return value
