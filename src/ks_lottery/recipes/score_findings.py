"""What the recipes of score tables say of their figures, in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ks_lottery.recipes.paper import paper_table
from ks_lottery.recipes.score_rows import NAMES, ScoreRow, difference_of, row_of
from ks_lottery.recipes.system_comparison import differing_conditions
from ks_lottery.recipes.table_scale import paper_model
from ks_lottery.recipes.where_findings import compared, how_compared

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ks_lottery.store.cells import FinishedCell

RANDOM = ("random", "random-reachable")
"""Systems whose rows are drawn."""


def empty_sets(place: str, rows: Sequence[ScoreRow]) -> list[str]:
    """Say which sets have no row with which seeds, so that what is made of them is the original model."""
    said: list[str] = []
    for row in rows:
        empty = [str(cell.about["seed"]) for cell in row.cells if cell.figures["rows"] == 0]
        if empty and row.system == "partial":
            said.append(
                f"{place}: no row has {row.set_name} with {'seed' if len(empty) == 1 else 'seeds'} {', '.join(empty)}: what is "
                "made of this set is the original model there."
            )
    return said


def versus(row: ScoreRow, other: ScoreRow, resamples: int) -> str:
    """Say whether accuracy is higher in one row than in another."""
    name = f"as many {NAMES[other.system]}" if other.system in RANDOM else other.name
    return compared(row.name, name, difference_of(row, other, "accuracy", resamples))


def findings_of(place: str, rows: Sequence[ScoreRow], resamples: int) -> list[str]:
    """Compare partial tuning and partial transfer of each set with embed tuning, and the first with random rows."""
    said: list[str] = []
    for row in rows:
        if row.system in {"partial", "transfer"} and not row.is_empty:
            others = [row_of(rows, "embed")]
            others += [row_of(rows, "random-reachable", row.set_name)] if row.system == "partial" else []
            said += [f"{place}: {versus(row, other, resamples)}" for other in others if other is not None]
    return said


def closing(
    finished: Sequence[FinishedCell], table: str | None, every: Mapping[str, Mapping[str, Sequence[ScoreRow]]]
) -> list[str]:
    """Say how to read the tables: sets of rows, random draws, intervals, conditions, and the paper's figures."""
    said: list[str] = []
    sets = {cell.about["set"] for cell in finished} - {None}
    if any(name.startswith("p <") for name in sets):
        said.append(
            "p < A is the set of rows with p in [0, A), closed on the left and open on the right; at most N are the first N "
            "rows by ascending p."
        )
    drawn = [cell for cell in finished if cell.about["system"] in RANDOM]
    if drawn:
        draws = len({cell.about["seed"] for cell in drawn})
        said.append(
            f"Random rows are the mean and the range of {draws} draw{'s' if draws > 1 else ''}, each as many rows as the "
            "tickets: random rows of the whole vocabulary, as in the paper, and random reachable rows, which the text can "
            "train. In differences to them, draws are resampled as seeds are."
        )
    said += how_compared([cell for cell in finished if cell not in drawn]) + differing_conditions(finished)
    if table is not None:
        models = sorted({paper_model(model) for model in every})
        said.append(
            f"The paper's figures are {paper_table(table).metric} of {' and '.join(models)}, "
            f"table {table.removeprefix('table')}: another model, text and metric than here unless these are the same."
        )
    return said
