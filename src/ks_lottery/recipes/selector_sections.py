"""Tables and sentences of the recipe `selectors`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ks_lottery.recipes.over_seeds import mean, mean_figure, places_of, spread, with_interval
from ks_lottery.recipes.system_comparison import (
    claim,
    compare_systems,
    differing_conditions,
    holm,
    how_paired,
    kept_gain,
    paired,
    same_positions,
)
from ks_lottery.report.section import Column, Section

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ks_lottery.stats.crossed import CrossedDifference
    from ks_lottery.store.cells import FinishedCell

BASELINE = "occurrence"
"""Rule that the others are compared with: counting."""

PRIMARY_RULES, PRIMARY_SIZE, PRIMARY_WAY = ("lca", "gradient"), 18, "partial"
"""Comparisons with `BASELINE` that are fixed beforehand; all others are descriptive."""


@dataclass(frozen=True, kw_only=True)
class _Row:
    """A row of a table: one system over all seeds, compared with counting as many rows used in the same way."""

    system: str
    size: int | None
    way: str | None
    cells: Sequence[FinishedCell]
    accuracy: CrossedDifference | None = None
    loss: CrossedDifference | None = None
    kept: tuple[float, tuple[float, float] | None] | None = None


def selector_sections(finished: Sequence[FinishedCell], *, resamples: int = 10_000) -> list[Section]:
    """Return tables for each model and pair, and what the comparisons that were fixed beforehand show.

    Parameters
    ----------
    finished
        The cells, those of a system in the order of their seeds.
    resamples
        Resamples of seeds and sentences behind each interval.
    """
    sections: list[Section] = []
    primary: dict[str, CrossedDifference] = {}
    for (model, pair), cells in places_of(finished).items():
        rows = _rows(cells, resamples)
        sections += [_table(f"{model}, {pair}", rows), _forgetting(f"{model}, {pair}: forgetting", rows)]
        sections += _translations(f"{model}, {pair}: translations", rows)
        for row in rows:
            if row.system in PRIMARY_RULES and (row.size, row.way) == (PRIMARY_SIZE, PRIMARY_WAY) and row.accuracy:
                primary[f"{row.system} at {PRIMARY_SIZE} rows on {model}, {pair}"] = row.accuracy
    said = [*_without_a_prompt(finished), *_sentences(finished, primary)]
    return [*sections, Section(title="What the tables say", sentences=said)]


def _without_a_prompt(finished: Sequence[FinishedCell]) -> list[str]:
    """Name the models for which no prompt of their own tokens could be made."""
    every = dict.fromkeys(cell.about["model"] for cell in finished)
    made = {cell.about["model"] for cell in finished if cell.about["system"] == "token-prompt"}
    missing = [model for model in every if model not in made]
    if not missing:
        return []
    return [
        f"No token prompt of {', '.join(missing)}: the vocabulary has too few tokens that text never yields, or the prompt "
        "template does not show where the source is."
    ]


def _rows(cells: Sequence[FinishedCell], resamples: int) -> list[_Row]:
    systems: dict[tuple[Any, ...], list[FinishedCell]] = {}
    for cell in cells:
        systems.setdefault((cell.about["system"], cell.about["size"], cell.about["way"]), []).append(cell)
    original = systems.get(("original", None, None))
    embed = systems.get(("embed", None, None), [])
    rows: list[_Row] = []
    for (system, size, way), group in systems.items():
        compared: dict[str, Any] = {}
        measured, baseline = paired(group, systems.get((BASELINE, size, way), []))
        if baseline and system != BASELINE and same_positions([*measured, *baseline]):
            compared = {
                metric: compare_systems(measured, baseline, metric, resamples=resamples)
                for metric in ("accuracy", "loss")
            }
        tuned, whole = paired(group, embed)
        if original is not None and tuned and system != "embed" and same_positions([*tuned, *whole, *original]):
            compared["kept"] = kept_gain(tuned, whole, original, resamples=resamples)
        rows.append(_Row(system=system, size=size, way=way, cells=group, **compared))
    return rows


_NAMES = (Column(title="system"), Column(title="way"), Column(title="size", form="integer"))


def _named(row: _Row) -> list[Any]:
    return [row.system, row.way, row.size]


def _table(title: str, rows: Sequence[_Row]) -> Section:
    columns = [
        *_NAMES, Column(title="seeds", form="d"), Column(title="bytes", form="bytes"), Column(title="accuracy", form=".4f"),
        Column(title="over seeds", form="interval"), Column(title="share of embed tuning's gain", form=".2f"),
        Column(title="95% interval of the share", form=".2f"), Column(title="accuracy less occurrence", form="+.4f"),
        Column(title="95% interval", form="+.4f"), Column(title="loss", form=".4f"),
        Column(title="loss less occurrence", form="+.4f"), Column(title="95% interval of loss", form="+.4f"),
    ]  # fmt: skip
    values: list[list[Any]] = []
    for row in rows:
        accuracies = [cell.figures["accuracy"] for cell in row.cells]
        share, bounds = (None, None) if row.kept is None or row.kept[1] is None else row.kept
        values.append(
            [
                *_named(row), len(row.cells), mean_figure(row.cells, "bytes"), mean_figure(row.cells, "accuracy"),
                spread(accuracies), share, bounds, *with_interval(row.accuracy),
                mean_figure(row.cells, "loss"), *with_interval(row.loss),
            ]
        )  # fmt: skip
    return Section(title=title, columns=columns, rows=values, keys=3)


def _forgetting(title: str, rows: Sequence[_Row]) -> Section:
    """Return what general text shows; the interval over sentences is that of the first seed."""
    columns = [
        *_NAMES, Column(title="accuracy without the end", form=".4f"), Column(title="loss without the end", form=".4f"),
        Column(title="general loss, after less before", form="+.4f"), Column(title="95% interval, first seed", form="+.4f"),
        Column(title="general accuracy, after less before", form="+.4f"), Column(title="untouched", form=".1%"),
    ]  # fmt: skip
    values: list[list[Any]] = []
    for row in rows:
        ends = [cell.figures["without_end"] for cell in row.cells]
        forgot = [cell.figures["forgetting"] for cell in row.cells]
        low_high = forgot[0]["loss_interval"]
        values.append(
            [
                *_named(row), *(mean(end[name] for end in ends) for name in ("accuracy", "loss")),
                mean(item["loss_difference"] for item in forgot), None if low_high is None else tuple(low_high),
                mean(item["accuracy_difference"] for item in forgot), forgot[0]["untouched_share"],
            ]
        )  # fmt: skip
    return Section(title=title, columns=columns, rows=values, keys=3)


def _translations(title: str, rows: Sequence[_Row]) -> list[Section]:
    """Return the scores of the systems that translated, with their first seed; no section without any."""
    shown = [(row, row.cells[0].figures) for row in rows if row.cells[0].figures.get("scores")]
    if not shown:
        return []
    columns = [
        *_NAMES, Column(title="ended", form=".2f"), Column(title="length ratio", form=".2f"), Column(title="BLEU", form=".1f"),
        Column(title="BLEU, first line", form=".1f"), Column(title="chrF++", form=".1f"),
        Column(title="chrF++, first line", form=".1f"),
    ]  # fmt: skip
    values = [
        [
            *_named(row), figures["ended"]["share"], figures["scores"]["metrics"]["bleu"]["length_ratio"],
            *(figures[part]["metrics"][metric]["score"] for metric in ("bleu", "chrf") for part in ("scores", "first_line")),
        ]
        for row, figures in shown
    ]  # fmt: skip
    first = shown[0][1]["scores"]
    about = f"{first['sentences']:,} sentences, the first seed; descriptive"
    return [Section(title=title, columns=columns, rows=values, keys=3, sentences=[about])]


def _sentences(finished: Sequence[FinishedCell], primary: Mapping[str, CrossedDifference]) -> list[str]:
    seeds = len({cell.about["seed"] for cell in finished} - {None})
    adjusted = holm(primary)
    sentences = [claim(name, BASELINE, difference, adjusted[name]) for name, difference in primary.items()]
    sentences.append(
        f"{how_paired(finished)} {'All other differences are descriptive.' if primary else 'All differences are descriptive.'}"
    )
    if seeds < 3:
        drawn = "one draw" if seeds == 1 else f"{seeds} draws"
        sentences.append(f"Random rows are {drawn} here; a comparison with chance needs at least 3 seeds.")
    return [*sentences, *differing_conditions(finished)]
