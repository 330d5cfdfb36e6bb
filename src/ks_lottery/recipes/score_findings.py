"""What the recipes of score tables say of their figures, in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ks_lottery.recipes.paper import paper_table
from ks_lottery.recipes.score_rows import ScoreRow, difference_of, row_of
from ks_lottery.recipes.system_comparison import differing_conditions
from ks_lottery.recipes.table_scale import paper_model
from ks_lottery.recipes.where_findings import compared, how_compared

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ks_lottery.store.cells import FinishedCell


def empty_sets(place: str, rows: Sequence[ScoreRow]) -> list[str]:
    """Say which sets have no row with which seeds, so that what is made of them is the original model."""
    said: list[str] = []
    for name in dict.fromkeys(row.set_name for row in rows if row.set_name is not None):
        row = next(row for row in rows if row.set_name == name and row.system in {"partial", "transfer", "frozen"})
        empty = [str(cell.about["seed"]) for cell in row.cells if cell.figures["rows"] == 0]
        if empty and row.system != "frozen":
            seeds = "seed" if len(empty) == 1 else "seeds"
            said.append(
                f"{place}: no row has {name} with {seeds} {', '.join(empty)}: tuning and transfer of this set are the original "
                "model there."
            )
    return said


def findings_of(place: str, rows: Sequence[ScoreRow], resamples: int) -> list[str]:
    """Compare partial tuning and partial transfer of each set with embed tuning, and the first with random rows."""
    said: list[str] = []
    embed = row_of(rows, "embed")
    for row in rows:
        if row.system not in {"partial", "transfer"} or embed is None:
            continue
        said.append(f"{place}: {compared(row.name, embed.name, difference_of(row, embed, 'accuracy', resamples))}")
        drawn = row_of(rows, "random-reachable", row.set_name)
        if row.system == "partial" and drawn is not None:
            difference = difference_of(row, drawn, "accuracy", resamples)
            said.append(f"{place}: {compared(row.name, 'as many random reachable rows', difference)}")
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
    draws = {cell.about["seed"] for cell in finished if cell.about["system"] in {"random", "random-reachable"}}
    if draws:
        said.append(
            f"Random rows are the mean and the range of {len(draws)} draw{'s' if len(draws) > 1 else ''}, each as many rows as "
            "the tickets: random rows of the whole vocabulary, as in the paper, and random reachable rows, which the text can "
            "train."
        )
    said += [*how_compared(finished), *differing_conditions(finished)]
    if table is not None:
        models = sorted({paper_model(model) for model in every})
        said.append(
            f"The paper's figures are {paper_table(table).metric} of {' and '.join(models)}, "
            f"table {table.removeprefix('table')}: another model, text and metric than here unless these are the same."
        )
    return said
