"""Tables and sentences of the recipes of score tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ks_lottery.recipes.over_seeds import mean_if_any, places_of, spread
from ks_lottery.recipes.paper import paper_table
from ks_lottery.recipes.score_findings import closing, empty_sets, findings_of, versus
from ks_lottery.recipes.score_rows import (
    FIRST,
    NAMES,
    ScoreRow,
    difference_of,
    paper_values,
    row_of,
    score_rows,
    shared_seeds,
    whole,
)
from ks_lottery.recipes.system_comparison import kept_gain, same_positions
from ks_lottery.report.section import Column, Section

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ks_lottery.store.cells import FinishedCell

KEYS = (Column(title="system"), Column(title="rows"))


def score_sections(
    finished: Sequence[FinishedCell],
    *,
    table: str,
    left_out: Mapping[str, str] | None = None,
    resamples: int = 10_000,
) -> list[Section]:
    """Return the scores of each system for each model and pair, the averages over pairs, and what they say.

    Parameters
    ----------
    table
        Table of the paper whose figures stand beside.
    left_out
        Systems that this machine cannot make, and what it lacks.
    resamples
        Resamples of seeds and sentences behind each interval.
    """
    sections: list[Section] = []
    said: list[str] = []
    every: dict[str, dict[str, list[ScoreRow]]] = {}
    for (model, pair), cells in places_of(finished).items():
        rows, place = score_rows(cells), f"{model}, {pair}"
        every.setdefault(model, {})[pair] = rows
        paper = paper_values(table, model, pair)
        missing = {system: why for system, why in (left_out or {}).items() if row_of(rows, system) is None}
        said += [f"{place}: {NAMES[system]} is not here: it needs {why}." for system, why in missing.items()]
        sections += [accuracy_section(place, rows, paper, resamples, missing), *translation_section(place, rows, paper)]
        said += [*empty_sets(place, rows), *findings_of(place, rows, resamples)]
    for model, pairs in every.items():
        sections += _averages(model, pairs, table)
    said += closing(finished, table, every)
    return [*sections, Section(title="What the tables say", sentences=said)]


def sweep_sections(
    finished: Sequence[FinishedCell], *, table: str, systems: Sequence[str], resamples: int = 10_000
) -> list[Section]:
    """Return the scores by number of rows for each model and pair, the best number of each system, and what they say.

    Parameters
    ----------
    table
        Table of the paper whose figures stand beside those of the best numbers.
    systems
        Systems whose number of rows changes.
    """
    sections: list[Section] = []
    said: list[str] = []
    every: dict[str, dict[str, list[ScoreRow]]] = {}
    for (model, pair), cells in places_of(finished).items():
        rows, place = score_rows(cells), f"{model}, {pair}"
        every.setdefault(model, {})[pair] = rows
        by_system = [row for row in rows if row.system not in systems]
        by_system += [row for system in systems for row in rows if row.system == system]
        sections += [accuracy_section(place, by_system, None, resamples), *translation_section(place, by_system, None)]
        said += empty_sets(place, rows)
        embed = row_of(rows, "embed")
        best = [row for row in (best_row(rows, system) for system in systems) if row is not None]
        shown = [*([] if embed is None else [embed]), *best]
        sections.append(_best(f"{place}: best number of rows", shown, paper_values(table, model, pair)))
        if embed is not None:
            said += [f"{place}: {versus(row, embed, resamples)}" for row in best]
    said.append(
        "The best number of rows is that of the highest mean accuracy on the text that is measured on, as in the paper: its "
        "score is too high by chance."
    )
    said += closing(finished, table, every)
    return [*sections, Section(title="What the tables say", sentences=said)]


def frozen_sections(finished: Sequence[FinishedCell], *, resamples: int = 10_000) -> list[Section]:
    """Return the scores by number of frozen rows for each model and pair, and what they say."""
    sections: list[Section] = []
    said: list[str] = []
    for (model, pair), cells in places_of(finished).items():
        rows, place = score_rows(cells), f"{model}, {pair}"
        sections += [accuracy_section(place, rows, None, resamples), *translation_section(place, rows, None)]
        for row in rows:
            if row.system == "frozen":
                others = [row_of(rows, "embed"), row_of(rows, "frozen-random", row.set_name)]
                said += [f"{place}: {versus(row, other, resamples)}" for other in others if other is not None]
    said.append(
        "all but the tickets, at most N: every row that the text reaches is trained but the first N rows by ascending p, which "
        "keep the values of the original model; beside it, as many frozen rows that are drawn at random. The number of rows in "
        "the table is that of trained rows. The paper shows figure 5 without numbers."
    )
    said += closing(finished, None, {})
    return [*sections, Section(title="What the tables say", sentences=said)]


def best_row(rows: Sequence[ScoreRow], system: str) -> ScoreRow | None:
    """Return the row of a system with the highest mean accuracy, of those that have rows; of equal ones, the first."""
    found = [row for row in rows if row.system == system and not row.is_empty]
    return max(found, key=lambda row: mean_if_any(row.accuracies) or 0.0) if found else None


def accuracy_section(
    title: str,
    rows: Sequence[ScoreRow],
    paper: Callable[[ScoreRow], Any] | None,
    resamples: int,
    missing: Mapping[str, str] | None = None,
) -> Section:
    """Return next-token accuracy and loss of each row: less embed tuning, and as a share of its gain.

    Parameters
    ----------
    paper
        Finds the paper's figure of a row; None for no such column.
    missing
        Systems that this machine cannot make, and what it lacks: a row says so.
    """
    columns = [
        *KEYS, Column(title="number of rows", form="integer"), Column(title="parameters", form="integer"),
        Column(title="accuracy", form=".4f"), Column(title="over seeds or draws", form=".4f"),
        Column(title="accuracy less embed tuning", form="+.4f"), Column(title="95% interval", form="+.4f"),
        Column(title="share of embed tuning's gain", form=".2f"), Column(title="95% interval of the share", form=".2f"),
        Column(title="loss", form=".4f"), *([] if paper is None else [Column(title="paper, spBLEU", form=".1f")]),
    ]  # fmt: skip
    embed, original = row_of(rows, "embed"), row_of(rows, "original")
    values: list[list[Any]] = []
    for row in rows:
        gap = None if embed in (None, row) else difference_of(row, embed, "accuracy", resamples)
        share, bounds = _share(row, embed, original, resamples)
        values.append(
            [
                NAMES[row.system], row.set_name, "none" if row.is_empty else whole(row.tokens),
                whole([c.figures["parameters"] for c in row.cells]),
                mean_if_any(row.accuracies), spread(row.accuracies), None if gap is None else gap.estimate,
                None if gap is None else (gap.low, gap.high), share, bounds, mean_if_any(c.figures["loss"] for c in row.cells),
                *([] if paper is None else [paper(row)]),
            ]
        )  # fmt: skip
    for system, why in (missing or {}).items():
        shown = [] if paper is None else [paper(ScoreRow(system=system, set_name=None, cells=()))]
        empty = [None] * (len(columns) - 2 - len(shown))
        place = sum(row.set_name is None and FIRST.index(row.system) < FIRST.index(system) for row in rows)
        values.insert(place, [NAMES[system], f"needs {why}", *empty, *shown])
    return Section(title=title, columns=columns, rows=values, keys=2)


def _share(
    row: ScoreRow, embed: ScoreRow | None, original: ScoreRow | None, resamples: int
) -> tuple[float | None, tuple[float, float] | None]:
    """Return the share of embed tuning's gain that a row keeps, over the seeds of both; None where it cannot be said."""
    if embed is None or original is None or row.system in {"embed", "original"}:
        return None, None
    part, gain = shared_seeds(row, embed)
    if len(part) != len(gain) or not part or not same_positions([*part, *gain, *original.cells]):
        return None, None
    kept = kept_gain(part, gain, original.cells, resamples=resamples)
    return (None, None) if kept is None or kept[1] is None else kept


def translation_section(title: str, rows: Sequence[ScoreRow], paper: Callable[[ScoreRow], Any] | None) -> list[Section]:
    """Return the scores of the rows that translated; no section where none did."""
    shown = [row for row in rows if row.translated]
    if not shown:
        return []
    every = {name for row in shown for name in row.translated[0].figures["scores"]["metrics"]}
    scored = [name for name in (*sorted(every - {"bleu", "chrf"}), "bleu", "chrf") if name in every]
    titles = {"bleu": "BLEU", "chrf": "chrF++"}
    columns = [*KEYS, Column(title="ended", form=".2f"), Column(title="length ratio", form=".2f")]
    for name in scored:
        head = titles.get(name, name.replace("spbleu-", "spBLEU "))
        columns += [
            Column(title=head, form=".1f"), Column(title=f"{head}, over seeds or draws", form=".1f"),
            Column(title=f"{head}, first line", form=".1f"),
        ]  # fmt: skip
    columns += [] if paper is None else [Column(title="paper, spBLEU", form=".1f")]
    values: list[list[Any]] = []
    for row in shown:
        figures = [cell.figures for cell in row.translated]
        lengths = [f["scores"]["metrics"]["bleu"]["length_ratio"] for f in figures]
        found: list[Any] = [mean_if_any(f["ended"]["share"] for f in figures), mean_if_any(lengths)]
        for name in scored:
            found += [
                mean_if_any(row.scores(name)),
                spread(row.scores(name)),
                mean_if_any(row.scores(name, "first_line")),
            ]
        values.append([NAMES[row.system], row.set_name, *found, *([] if paper is None else [paper(row)])])
    counts = sorted({cell.figures["scores"]["sentences"] for row in shown for cell in row.translated})
    seeds = sorted({len(row.translated) for row in shown})
    sentences, draws = (" to ".join(f"{count:,}" for count in numbers) for numbers in (counts, seeds))
    about = f"Descriptive: {sentences} sentences; seeds or draws that translate: {draws}."
    return [Section(title=f"{title}: translations", columns=columns, rows=values, keys=2, sentences=[about])]


def _best(title: str, rows: Sequence[ScoreRow], paper: Callable[[ScoreRow], Any]) -> Section:
    columns = [
        *KEYS, Column(title="number of rows", form="integer"), Column(title="accuracy", form=".4f"),
        Column(title="over seeds", form=".4f"), Column(title="BLEU", form=".1f"), Column(title="paper, spBLEU", form=".1f"),
    ]  # fmt: skip
    values = [
        [
            NAMES[row.system], row.set_name, whole(row.tokens), mean_if_any(row.accuracies), spread(row.accuracies),
            mean_if_any(row.scores("bleu")), paper(row),
        ]
        for row in rows
    ]  # fmt: skip
    return Section(title=title, columns=columns, rows=values, keys=2)


def _averages(model: str, pairs: Mapping[str, Sequence[ScoreRow]], table: str) -> list[Section]:
    """Return the accuracy of each system on each pair, and the averages over pairs; nothing with one pair."""
    if len(pairs) < 2:
        return []
    columns = [
        *KEYS, *(Column(title=pair, form=".4f") for pair in pairs), Column(title="average accuracy", form=".4f"),
        Column(title="average BLEU", form=".1f"), Column(title="paper, average spBLEU", form=".1f"),
    ]  # fmt: skip
    own = [column for column in paper_table(table).columns or () if column.startswith("en-")]
    paper = paper_values(table, model, "average")
    keys = dict.fromkeys((row.system, row.set_name) for rows in pairs.values() for row in rows)
    values: list[list[Any]] = []
    for system, set_name in keys:
        found = [row_of(rows, system, set_name) for rows in pairs.values()]
        means = [None if row is None else mean_if_any(row.accuracies) for row in found]
        bleu = [None if row is None else mean_if_any(row.scores("bleu")) for row in found]
        at = next(row for row in found if row is not None)
        averages = [
            mean_if_any(v for v in column if v is not None) if None not in column else None for column in (means, bleu)
        ]
        values.append([NAMES[system], set_name, *means, *averages, paper(at) if set(own) == set(pairs) else None])
    return [Section(title=f"{model}: average over pairs", columns=columns, rows=values, keys=2)]
