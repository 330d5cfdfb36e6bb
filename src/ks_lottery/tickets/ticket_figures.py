"""What tickets show as a chart: the score that selected them, the largest at the top."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ks_lottery.errors import UserError
from ks_lottery.report.vega import intervals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ks_lottery.report.section import Column
    from ks_lottery.report.vega import Spec


def scores_spec(
    rows: Sequence[int],
    scores: Sequence[Mapping[str, Any]],
    shown: Mapping[str, Column],
    tokens: Mapping[int, str] | None = None,
) -> Spec:
    """Return the first score of `shown` that every ticket has, as a plot.

    Raises
    ------
    UserError
        When the tickets have no such score.
    """
    known = [name for name in shown if scores and all(name in score for score in scores)]
    if not known:
        raise UserError("the tickets have no scores to plot: give tickets that were selected by a score")
    names = [f"{row} {(tokens or {}).get(row, '')}".strip() for row in rows]
    lines = [(name, float(score[known[0]]), None, None) for name, score in zip(names, scores, strict=False)]
    return intervals(lines, shown[known[0]].title, form=".4~f")
