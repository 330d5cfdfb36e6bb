"""Tables of the recipes `table5`, `table7`, `figure4` and `figure7`: what is certified, predicted, guaranteed at each alpha."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ks_lottery.recipes.certificate_stages import named
from ks_lottery.recipes.over_seeds import mean, places_of
from ks_lottery.recipes.paper import paper_table
from ks_lottery.recipes.system_comparison import compare_systems, differing_conditions, how_paired
from ks_lottery.report.section import Column, Section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ks_lottery.stats.crossed import CrossedDifference
    from ks_lottery.store.cells import FinishedCell

PAPER_MODEL = "LLaMA-7B"
"""Model of the paper whose figures stand beside those of a recipe."""


@dataclass(frozen=True, kw_only=True)
class AlphaLevel:
    """One alpha over all seeds.

    Parameters
    ----------
    alpha
        Significance level that chose the rows.
    tickets
        Number of rows, one a seed.
    tau, verified, certified, predicted, original
        Means over seeds: the empirical tau; shares of the positions that count.
    certified_range
        Smallest and largest certified accuracy over seeds.
    positions, violations
        Certified positions, and those that the small model answers otherwise than the reference, over all seeds.
    violation_interval
        Interval of the share of violations with the first seed, as if positions were independent.
    lower
        By what is bounded, the guaranteed lower bound, the least over seeds: each bound holds for its own seed alone.
    gap
        Prediction accuracy less certified accuracy, paired.
    """

    alpha: float
    tickets: Sequence[int]
    tau: float
    verified: float
    certified: float
    certified_range: tuple[float, float]
    predicted: float
    original: float
    positions: int
    violations: int
    violation_interval: tuple[float, float]
    lower: dict[str, float]
    gap: CrossedDifference


def certification_tables(
    finished: Sequence[FinishedCell], *, name: str, rule: str, alphas: Sequence[float], resamples: int = 10_000
) -> list[Section]:
    """Return a table for each model and pair, and what the tables say.

    Parameters
    ----------
    finished
        The cells, one a seed for each model and pair.
    name
        Table of the paper, such as ``table7``.
    rule
        Rule of certification that is shown.
    alphas
        Alphas that are shown, as far as they were computed.
    resamples
        Resamples of seeds and sentences behind each interval.
    """
    sections: list[Section] = []
    sentences: list[str] = []
    for place, cells in places_of(finished).items():
        levels = levels_of(cells, rule, alphas, resamples=resamples)
        title = ", ".join(place)
        sections.append(_table(f"{title}: {cells[0].about['way']}, rule {rule}", name, place[1], levels))
        sentences += [f"{title}: {sentence}" for sentence in _findings(cells, levels)]
    return [*sections, Section(title="What the tables say", sentences=[*sentences, *_reading(finished, rule)])]


def levels_of(
    cells: Sequence[FinishedCell], rule: str, alphas: Sequence[float], *, resamples: int = 10_000
) -> list[AlphaLevel]:
    """Return each alpha that the cells of one model and pair have, over their seeds.

    Parameters
    ----------
    cells
        One a seed.
    rule, alphas, resamples
        As for `certification_tables`.
    """
    known = {level["name"] for level in cells[0].figures["levels"]}
    return [_level(cells, rule, alpha, resamples) for alpha in alphas if named(alpha) in known]


def _level(cells: Sequence[FinishedCell], rule: str, alpha: float, resamples: int) -> AlphaLevel:
    levels = [next(one for one in cell.figures["levels"] if one["name"] == named(alpha)) for cell in cells]
    bounds = [level["bounds"]["empirical"] for level in levels]
    audits = [bound["rules"][rule] for bound in bounds]
    lower: dict[str, float] = {}
    for cell in cells:
        for guarantee in cell.figures["guarantees"]:
            if guarantee["model"] == named(alpha):
                bounded = guarantee["bounded"]
                lower[bounded] = min(lower.get(bounded, 1.0), guarantee["lower"])
    predicted, certified = ([_added(cell, alpha, column) for cell in cells] for column in ("small", rule))
    return AlphaLevel(
        alpha=alpha,
        tickets=[level["tickets"] for level in levels],
        tau=mean([bound["tau"] for bound in bounds]),
        verified=mean([audit["verified"] for audit in audits]),
        certified=mean([audit["accuracy"] for audit in audits]),
        certified_range=(min(audit["accuracy"] for audit in audits), max(audit["accuracy"] for audit in audits)),
        predicted=mean([level["prediction_accuracy"] for level in levels]),
        original=mean([cell.figures["original_accuracy"] for cell in cells]),
        positions=sum(audit["positions"] for audit in audits),
        violations=sum(audit["violations"] for audit in audits),
        violation_interval=tuple(audits[0]["violation_interval"]),
        lower=lower,
        gap=compare_systems(predicted, certified, "accuracy", resamples=resamples),
    )


def _added(cell: FinishedCell, alpha: float, column: str) -> FinishedCell:
    """Return what each sentence adds to one column of one alpha, as the right answers of a cell of its own."""
    added = cell.figures["by_sentence"]
    counted = {"positions": added["positions"], "correct": added["levels"][named(alpha)][column]}
    return replace(cell, figures={"sentences": counted})


def _table(title: str, name: str, pair: str, levels: Sequence[AlphaLevel]) -> Section:
    columns = [
        Column(title="alpha", form="g"), Column(title="tickets", form=",.1f"), Column(title="tau", form=".4f"),
        Column(title="verified", form=".4f"), Column(title="certified", form=".4f"),
        Column(title="over seeds", form=".4f"), Column(title="predicted", form=".4f"),
        Column(title="original", form=".4f"), Column(title="predicted less certified", form="+.4f"),
        Column(title="95% interval", form="+.4f"), Column(title="certified positions", form="integer"),
        Column(title="violations", form="integer"), Column(title="95% of their share, first seed", form=".4f"),
        Column(title="agreement at least", form=".4f"), Column(title="sentences agree at least", form=".4f"),
        Column(title="accuracy at least", form=".4f"),
    ]  # fmt: skip
    rows: list[list[Any]] = [
        [
            one.alpha, mean(one.tickets) if any(one.tickets) else "none", one.tau, one.verified, one.certified,
            one.certified_range if len(one.tickets) > 1 else None, one.predicted, one.original, one.gap.estimate,
            (one.gap.low, one.gap.high), one.positions, one.violations, one.violation_interval,
            *(one.lower.get(bounded) for bounded in ("agreement", "all_agree", "accuracy")),
        ]
        for one in levels
    ]  # fmt: skip
    figures = PAPER_FIGURES.get(name, ())
    columns += [Column(title=f"paper, {figure}", form=".4f") for figure in figures]
    for row, one in zip(rows, levels, strict=True):
        row += [paper_figure(name, pair, one.alpha, figure) for figure in figures]
    return Section(title=title, columns=columns, rows=rows, keys=1)


PAPER_FIGURES = {
    "table5": ("verified", "original", "certified", "prediction"), "table7": ("certified", "prediction"),
    "figure4": ("certified", "prediction"),
}  # fmt: skip
"""Table to the figures that the paper has in numbers; those of figure 4 are in table 7."""


def paper_figure(name: str, pair: str, alpha: float, figure: str) -> float | None:
    """Return a figure of the paper's table 5 or 7 as a share; None where it has none."""
    if name == "table5":
        percent = paper_table("table5").value(figure, model=PAPER_MODEL, alpha=alpha) if pair == "en-ca" else None
        return None if percent is None else percent / 100
    return paper_table("table7").value(pair, model=PAPER_MODEL, alpha=alpha, figure=figure)


def _findings(cells: Sequence[FinishedCell], levels: Sequence[AlphaLevel]) -> list[str]:
    """Say where certified accuracy is a lower bound of prediction accuracy, what was violated, and what had no ticket."""
    sentences: list[str] = []
    below, above = ([f"{one.alpha:g}" for one in levels if test(one)] for test in (_is_bound, _is_no_bound))
    if below:
        sentences.append(f"certified accuracy is below prediction accuracy at alpha {', '.join(below)}.")
    if above:
        sentences.append(
            f"certified accuracy is ABOVE prediction accuracy at alpha {', '.join(above)}: no lower bound there."
        )
    unclear = [f"{one.alpha:g}" for one in levels if not (_is_bound(one) or _is_no_bound(one))]
    if unclear:
        sentences.append(f"the interval of their difference contains 0 at alpha {', '.join(unclear)}.")
    wrong = [one for one in levels if one.violations]
    if wrong:
        most = max(wrong, key=lambda one: one.violations / one.positions)
        sentences.append(
            f"the bound is violated at {len(wrong)} of {len(levels)} alphas; most at {most.alpha:g}: the small model answers "
            f"{most.violations:,} of {most.positions:,} certified positions otherwise than the reference."
        )
    elif any(one.positions for one in levels):
        sentences.append("no certified position is violated.")
    else:
        sentences.append("no position is certified at any alpha.")
    for one in levels:
        none = [cell.about["seed"] for cell, count in zip(cells, one.tickets, strict=True) if not count]
        if none:
            seeds = ", ".join(str(seed) for seed in none)
            sentences.append(
                f"alpha {one.alpha:g} selects no ticket with seed {seeds}: the small model is the original one."
            )
    return sentences


def _is_bound(one: AlphaLevel) -> bool:
    return one.gap.low > 0.0


def _is_no_bound(one: AlphaLevel) -> bool:
    return one.gap.high < 0.0


RULE_SENTENCES = {
    "theorem": "theorem 2: the tuned model answers the reference, and half its gap exceeds tau",
    "both": "our reading of table 5: original and tuned model answer the reference, and half the original's gap exceeds tau; "
    "theorem 2 does not cover it",
    "algorithm1": "algorithm 1 of the paper: the tuned model answers the reference, and half the original's gap exceeds tau; "
    "theorem 2 does not cover it",
}


def _reading(finished: Sequence[FinishedCell], rule: str) -> list[str]:
    figures = finished[0].figures
    delta = figures["guarantees"][0]["delta"] if figures["guarantees"] else None
    sentences = [
        f"Certified: by {RULE_SENTENCES[rule]}.",
        "The bound guarantees nothing for a deep network. Violations are the certified positions where it fails.",
        f"Counted: first {figures['counted']['bound']} positions of a sentence. tau: the largest D of all rows not selected.",
        how_paired(finished),
    ]
    if delta is not None:
        counted = figures["counted"]["guarantee"]
        first = "whole sentences" if counted == "all" else f"the first {counted} positions of each sentence"
        sentences.append(
            f"at least: guarantees from the half of the test text that the table does not report on, over {first}. Each holds "
            f"for one model and fails with probability {delta:g} at most, whatever the model is; the least over seeds is shown."
        )
    if any(cell.about["way"] == "partial" for cell in finished):
        sentences.append(
            "The rows of each alpha are tuned alone; at alpha 1 no row is left out, so it is embed tuning."
        )
    return [*sentences, *differing_conditions(finished)]
