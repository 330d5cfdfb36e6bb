"""What figures 4, 6 and 7 show: taus and accuracies over alpha, and p of each kind of module in each layer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ks_lottery.recipes.certification_tables import levels_of
from ks_lottery.recipes.over_seeds import places_of
from ks_lottery.report.chart import Chart, Series

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ks_lottery.recipes.certification_tables import AlphaLevel
    from ks_lottery.store.cells import FinishedCell


def certification_charts(
    finished: Sequence[FinishedCell], *, name: str, rule: str, alphas: Sequence[float]
) -> list[Chart]:
    """Return the parts of figure 4 or 7: tau over alpha of every pair, then for each pair certified and prediction accuracy.

    Parameters
    ----------
    finished, name, rule, alphas
        As for `ks_lottery.recipes.certification_tables.certification_tables`.
    """
    places = places_of(finished)
    several = len({model for model, _ in places}) > 1
    levels: dict[str, list[AlphaLevel]] = {}
    for (model, pair), cells in places.items():
        label = f"{pair}, {model.rstrip('/').rsplit('/', maxsplit=1)[-1]}" if several else pair
        levels[label] = levels_of(cells, rule, alphas, resamples=1)
    taus = [Series(name=label, x=_alphas(own), y=[one.tau for one in own]) for label, own in levels.items()]
    charts = [Chart(name=f"{name}-tau", title="tau", x_title="alpha", y_title="tau", series=taus)]
    for place, (label, own) in enumerate(levels.items(), start=1):
        ranges = [one.certified_range for one in own] if len(own[0].tickets) > 1 else []
        certified = Series(
            name="certified", x=_alphas(own), y=[one.certified for one in own], low=[low for low, _ in ranges],
            high=[high for _, high in ranges],
        )  # fmt: skip
        predicted = Series(name="predicted", x=_alphas(own), y=[one.predicted for one in own])
        chart = Chart(
            name=f"{name}-{place}", title=label, x_title="alpha", y_title="accuracy", series=[certified, predicted],
            levels=[("original model", own[0].original)],
        )  # fmt: skip
        charts.append(chart)
    return charts


def _alphas(levels: Sequence[AlphaLevel]) -> list[float]:
    return [one.alpha for one in levels]


def module_charts(finished: Sequence[FinishedCell]) -> list[Chart]:
    """Return figure 6 for each model and pair: the smallest p of each kind of module by layer, with the first seed.

    The height is minus the decimal logarithm of p; the embedding is at -1.
    """
    charts: list[Chart] = []
    places = places_of(finished)
    for number, (place, own) in enumerate(places.items(), start=1):
        points: dict[str, list[tuple[float, float]]] = {}
        for cell in own:
            if cell.about["seed"] != own[0].about["seed"]:
                continue
            layer = -1 if cell.about["layer"] is None else cell.about["layer"]
            for found in cell.figures["kinds"]:
                if found["log_pvalue"] is not None:
                    points.setdefault(found["kind"], []).append((layer, -found["log_pvalue"] / math.log(10)))
        series = [
            Series(name=kind, x=[x for x, _ in pairs], y=[y for _, y in pairs], is_line=False)
            for kind, pairs in points.items()
        ]
        chart = Chart(
            name="figure6" if len(places) == 1 else f"figure6-{number}", title=", ".join(place),
            x_title="layer (-1: embedding)", y_title="-log10 of the smallest p", series=series,
            levels=[("p = 0.05", -math.log10(0.05))],
        )  # fmt: skip
        charts.append(chart)
    return charts
