"""What a certificate shows as charts: accuracies and tau by alpha (figures 4 and 7 of the paper), and by number of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ks_lottery.report.page_parts import Figure
from ks_lottery.report.section import Column, Section
from ks_lottery.report.vega import curves

if TYPE_CHECKING:
    from collections.abc import Mapping

CERTIFIED, PREDICTED, AGREES = "certified accuracy", "accuracy of the small model", "agreement with the tuned model"
TUNED, ORIGINAL, TAU = "accuracy of the tuned model", "accuracy of the original model", "tau"


def alpha_figure(content: Mapping[str, Any], rule: str = "theorem") -> Figure:
    """Return certified accuracy, prediction accuracy, agreement and tau against alpha.

    Parameters
    ----------
    content
        `Certificate.as_dict`.
    rule
        Which positions a tau certifies.
    """
    rows: list[list[Any]] = []
    points: list[dict[str, Any]] = []
    for place, level in enumerate(content["levels"]):
        bound = level["bounds"][content["tau"]]
        x = place if level["alpha"] is None else level["alpha"]
        values = {
            CERTIFIED: bound["rules"][rule]["accuracy"], PREDICTED: level["prediction_accuracy"], AGREES: level["agreement"],
            TAU: bound["tau"],
        }  # fmt: skip
        points += [{"x": x, "y": value, "series": name} for name, value in values.items()]
        rows.append([level["name"], level["alpha"], level["tickets"], *values.values()])
    columns = [
        Column(title="model"), Column(title="alpha", form="g"), Column(title="tickets", form="integer"),
        *(Column(title=name, form=".4f") for name in (CERTIFIED, PREDICTED, AGREES, TAU)),
    ]  # fmt: skip
    return Figure(
        name=f"certificate-{content['small']}",
        title=f"What is certified and what the small model does, at each alpha (tau {content['tau']})",
        spec=curves(points, "alpha", "share of positions; tau", form=".2f"),
        numbers=Section(columns=columns, rows=rows, keys=1),
    )


def tokens_figure(content: Mapping[str, Any]) -> Figure:
    """Return the accuracy of the small model against its number of rows (figure 8), beside the original and the tuned model."""
    levels = sorted(content["levels"], key=lambda level: level["tickets"])
    rows = [[level["tickets"], level["prediction_accuracy"]] for level in levels]
    ends = sorted({0, *(row[0] for row in rows)})
    points = [{"x": tickets, "y": accuracy, "series": "small model"} for tickets, accuracy in rows]
    for name, value in (("original model", content["original_accuracy"]), ("tuned model", content["tuned_accuracy"])):
        points += [{"x": x, "y": value, "series": name} for x in (ends[0], ends[-1])]
    columns = [Column(title="rows", form="integer"), Column(title="accuracy", form=".4f")]
    return Figure(
        name=f"accuracy-by-rows-{content['small']}",
        title="Accuracy of the small model against its number of tuned rows",
        spec=curves(points, "tuned rows (symmetric logarithm)", "accuracy", log=True, form=".2f"),
        numbers=Section(columns=columns, rows=rows),
    )
