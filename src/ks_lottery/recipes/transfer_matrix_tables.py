"""Tables of the recipe `transfer-matrix`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ks_lottery.recipes.over_seeds import spread, with_interval
from ks_lottery.recipes.system_comparison import compare_systems, differing_conditions, how_paired, kept_gain
from ks_lottery.report.section import Column, Section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ks_lottery.stats.crossed import CrossedDifference
    from ks_lottery.store.cells import FinishedCell

JOINT = "all texts together"
"""What rows are called that were chosen and trained on the texts of all pairs."""


def transfer_matrix_tables(finished: Sequence[FinishedCell], *, resamples: int = 10_000) -> list[Section]:
    """Return for each model the accuracies by language of the rows and of the text, and one table a pair with differences.

    Parameters
    ----------
    finished
        The cells.
    resamples
        Resamples of seeds and sentences behind each interval.
    """
    sections: list[Section] = []
    sentences: list[str] = []
    for model in dict.fromkeys(cell.about["model"] for cell in finished):
        own = [cell for cell in finished if cell.about["model"] == model]
        sections.append(_matrix(model, own))
        for pair in dict.fromkeys(cell.about["pair"] for cell in own):
            section, said = _compared(f"{model}, {pair}", [c for c in own if c.about["pair"] == pair], resamples)
            sections.append(section)
            sentences += said
    said = [
        "Rows are chosen by KS after embed tuning on the text of one pair, and trained alone on that of another.",
        "All texts together: the rows are chosen and trained on the texts of all pairs, with as many times the steps.",
        f"{how_paired(finished)} No comparison was fixed beforehand: all are descriptive, and a sentence above only says which "
        "intervals exclude 0.",
    ]
    sentences = sentences or ["No interval of a difference to the rows of the own language excludes 0."]
    return [
        *sections,
        Section(title="What the tables say", sentences=[*sentences, *said, *differing_conditions(finished)]),
    ]


def _matrix(model: str, cells: Sequence[FinishedCell]) -> Section:
    """Return mean accuracies, a row for each language of the rows and a column for each language of the text."""
    pairs = list(dict.fromkeys(cell.about["pair"] for cell in cells))
    columns = [Column(title="rows of"), *(Column(title=f"trained on {pair}", form=".4f") for pair in pairs)]
    rows: list[list[Any]] = []
    for rows_of in (*pairs, JOINT):
        values: list[float | None] = []
        for pair in pairs:
            found = _of(cells, system="partial", rows_of=rows_of, pair=pair)
            values.append(sum(cell.figures["accuracy"] for cell in found) / len(found) if found else None)
        rows.append([rows_of, *values])
    size = next(cell.about["size"] for cell in cells if cell.about["size"] is not None)
    return Section(
        title=f"{model}: accuracy of {size} rows trained alone, by the language that they were chosen in",
        columns=columns,
        rows=rows,
    )


def _compared(title: str, cells: Sequence[FinishedCell], resamples: int) -> tuple[Section, list[str]]:
    pair = cells[0].about["pair"]
    own = _of(cells, system="partial", rows_of=pair)
    original, embed = _of(cells, system="original"), _of(cells, system="embed", rows_of=pair)
    columns = [
        Column(title="system"), Column(title="rows of"), Column(title="accuracy", form=".4f"),
        Column(title="over seeds", form=".4f"), Column(title="less own rows", form="+.4f"),
        Column(title="95% interval", form="+.4f"), Column(title="share of embed tuning's gain", form=".2f"),
        Column(title="95% interval of the share", form="+.2f"), Column(title="loss", form=".4f"),
        Column(title="loss less own rows", form="+.4f"), Column(title="95% interval of loss", form="+.4f"),
    ]  # fmt: skip
    rows: list[list[Any]] = []
    sentences: list[str] = []
    for system, rows_of in dict.fromkeys((cell.about["system"], cell.about["rows_of"]) for cell in cells):
        group = _of(cells, system=system, rows_of=rows_of)
        accuracies = [cell.figures["accuracy"] for cell in group]
        compared: dict[str, CrossedDifference] = {}
        if group != own:
            compared = {
                metric: compare_systems(group, own, metric, resamples=resamples) for metric in ("accuracy", "loss")
            }
        kept = None
        if system != "original" and (system, rows_of) != ("embed", pair):
            kept = kept_gain(group, embed, original, resamples=resamples)
        share, interval = (None, None) if kept is None or kept[1] is None else kept
        rows.append(
            [
                system, rows_of, sum(accuracies) / len(accuracies),
                spread(accuracies), *with_interval(compared.get("accuracy")),
                share, interval, sum(cell.figures["loss"] for cell in group) / len(group), *with_interval(compared.get("loss")),
            ]
        )  # fmt: skip
        gap = compared.get("accuracy")
        if system == "partial" and gap is not None and (gap.low > 0 or gap.high < 0):
            sentences.append(
                f"{title}: rows of {rows_of} against rows of {pair}: {gap.estimate:+.4f} ({gap.low:+.4f} to {gap.high:+.4f})."
            )
    return Section(
        title=f"{title}: against the rows of its own language", columns=columns, rows=rows, keys=2
    ), sentences


def _of(cells: Sequence[FinishedCell], **about: Any) -> list[FinishedCell]:
    return [cell for cell in cells if all(cell.about[name] == value for name, value in about.items())]
