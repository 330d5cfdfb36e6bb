"""Figure 6: which kinds of modules change where each layer is tuned alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ks_lottery.recipes.over_seeds import mean, places_of, spread
from ks_lottery.recipes.system_comparison import differing_conditions
from ks_lottery.report.section import Column, Section

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ks_lottery.store.cells import FinishedCell


def module_tables(finished: Sequence[FinishedCell]) -> list[Section]:
    """Return for each model and pair what passes in each layer and kind of module, and in all layers together."""
    sections: list[Section] = []
    for place, cells in places_of(finished).items():
        sections += [_layers(", ".join(place), cells), _kinds(", ".join(place), cells)]
    said = [
        "Each layer is tuned alone, in float32, and compared with the base in float32; the embedding by embed tuning.",
        "A unit is a row of a matrix or a whole vector; D and p are of the unit with the smallest p, with the first seed.",
        "The paper: fewer than two LayerNorm parameters of each layer pass at p < 0.05; other changes are in the embedding.",
        "Counts are descriptive. Units differ in width, and a wide unit passes with a smaller D.",
    ]
    return [*sections, Section(title="How to read it", sentences=[*said, *differing_conditions(finished)])]


def _layers(title: str, cells: Sequence[FinishedCell]) -> Section:
    columns = [
        Column(title="layer"), Column(title="kind"), Column(title="units", form="integer"), Column(title="moved", form=",.1f"),
        Column(title="passing", form=",.1f"), Column(title="over seeds", form=",.0f"), Column(title="D", form=".4f"),
        Column(title="D that passes", form=".4f"), Column(title="p", form="pvalue"), Column(title="tensor", cut="begin"),
    ]  # fmt: skip
    rows: list[list[Any]] = []
    for (layer, kind), found in _grouped(cells).items():
        passing, first = [one["passing"] for one in found], found[0]
        rows.append(
            [
                "embedding" if layer is None else str(layer), kind, first["units"], mean([one["moved"] for one in found]),
                mean(passing), spread(passing), first["statistic"],
                first["critical_statistic"], first["log_pvalue"], first["tensor"],
            ]
        )  # fmt: skip
    return Section(title=f"{title}: layers tuned alone", columns=columns, rows=rows, keys=2)


def _kinds(title: str, cells: Sequence[FinishedCell]) -> Section:
    columns = [
        Column(title="kind"), Column(title="units", form="integer"), Column(title="passing", form=",.1f"),
        Column(title="share", form=".4f"), Column(title="layers with one", form=",.1f"),
        Column(title="most in a layer", form="integer"),
    ]  # fmt: skip
    groups, seeds = _grouped(cells), len({cell.about["seed"] for cell in cells})
    rows: list[list[Any]] = []
    for kind in dict.fromkeys(kind for _, kind in groups):
        found = [one for (_, own), every in groups.items() if own == kind for one in every]
        units, passing = (sum(one[name] for one in found) / seeds for name in ("units", "passing"))
        layers = sum(one["passing"] > 0 for one in found) / seeds
        rows.append([kind, round(units), passing, passing / units, layers, max(one["passing"] for one in found)])
    return Section(title=f"{title}: kinds of modules", columns=columns, rows=rows)


def _grouped(cells: Sequence[FinishedCell]) -> dict[tuple[int | None, str], list[Mapping[str, Any]]]:
    """Return what each seed found in each layer and kind of module."""
    groups: dict[tuple[int | None, str], list[Mapping[str, Any]]] = {}
    for cell in cells:
        for found in cell.figures["kinds"]:
            groups.setdefault((cell.about["layer"], found["kind"]), []).append(found)
    return groups
