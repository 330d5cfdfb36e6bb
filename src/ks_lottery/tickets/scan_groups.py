"""What changed in a whole model, by tensor and by layer: how many units moved and pass, before any unit is listed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_lottery.report.section import Column, Section

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ks_lottery.tickets.scan import Part, Scan

MOST = 12
"""Tensors, or layers, that the tables name."""

NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")
"""Number of a layer in the name of a tensor."""

OUTSIDE = "outside layers"

FIGURES = (
    Column(title="units", form="integer", drop=1), Column(title="moved", form="integer"),
    Column(title="pass", form="integer"), Column(title="largest D", form=".4f"),
)  # fmt: skip


def layer_of(tensor: str) -> int | None:
    """Return the number of the layer that a tensor belongs to: the first number in its name; None outside layers.

    >>> layer_of("model.layers.12.mlp.up_proj.weight"), layer_of("model.norm.weight")
    (12, None)
    """
    match = NUMBER.search(tensor)
    return None if match is None else int(match[0])


def name_of(tensor: str) -> str:
    """Return the name that a tensor has in every layer.

    >>> name_of("model.layers.12.mlp.up_proj.weight"), name_of("model.norm.weight")
    ('model.layers.*.mlp.up_proj.weight', 'model.norm.weight')
    """
    return NUMBER.sub("*", tensor, count=1)


def groups(scan: Scan, passing: Sequence[int]) -> dict[str, list[dict[str, Any]]]:
    """Return what moved and passes by ``tensor`` (over all layers) and by ``layer``, those with the most passing units first.

    Parameters
    ----------
    passing
        Units with p < alpha.

    Returns
    -------
    dict
        Of each group: ``name`` (a layer's is its number; None for what is outside of layers), ``layers`` (numbers of the layers
        with a unit that moved), ``units``, ``moved``, ``passing`` and ``largest_statistic`` (the largest D).
    """
    passes = np.zeros(len(scan), dtype=bool)
    passes[np.asarray(passing, dtype=np.int64)] = True
    return {
        "tensor": _grouped(scan, passes, lambda part: name_of(part.tensor)),
        "layer": _grouped(scan, passes, lambda part: layer_of(part.tensor)),
    }


def _grouped(
    scan: Scan, passes: np.ndarray[Any, np.dtype[np.bool_]], key: Callable[[Part], Any]
) -> list[dict[str, Any]]:
    found: dict[Any, dict[str, Any]] = {}
    statistics = scan.statistics
    for part in scan.parts:
        units = slice(part.start, part.start + part.count)
        name = key(part)
        moved = int(np.count_nonzero(scan.moved[units]))
        nothing: dict[str, Any] = {"units": 0, "moved": 0, "passing": 0, "largest_statistic": 0.0}
        group = found.setdefault(name, {"name": name, "layers": [], **nothing})
        layer = layer_of(part.tensor)
        if moved and layer is not None and layer not in group["layers"]:
            group["layers"] = sorted([*group["layers"], layer])
        group["units"] += part.count
        group["moved"] += moved
        group["passing"] += int(passes[units].sum())
        group["largest_statistic"] = max(group["largest_statistic"], float(statistics[units].max(initial=0.0)))
    return sorted(found.values(), key=lambda group: (-group["passing"], -group["moved"], -group["largest_statistic"]))


def group_sections(grouped: dict[str, list[dict[str, Any]]], alpha: float) -> list[Section]:
    """Return a table by tensor and one by layer; nothing where one tensor was compared, or nothing moved."""
    tensors, layers = grouped["tensor"], grouped["layer"]
    moved = [group for group in tensors if group["moved"]]
    if len(tensors) < 2 or not moved:
        return []
    name = Column(title="tensor (over all layers)", cut="begin", ending=".weight")
    sections = [
        Section(
            title=f"By tensor: units that moved, and that pass p < {alpha:g}",
            columns=[name, *FIGURES, Column(title="layers that moved", drop=2)],
            rows=[
                [group["name"], *_figures(group), ranges(group["layers"]) if group["layers"] else "-"]
                for group in moved[:MOST]
            ],
            sentences=_rest("tensor", moved, len(tensors)),
        )
    ]
    moved = [group for group in layers if group["moved"]]
    if len(layers) > 1:
        sections.append(
            Section(
                title="By layer",
                columns=[Column(title="layer", align="right"), *FIGURES],
                rows=[
                    [OUTSIDE if group["name"] is None else str(group["name"]), *_figures(group)]
                    for group in moved[:MOST]
                ],
                sentences=_rest("layer", moved, len(layers)),
            )
        )
    return sections


def _figures(group: dict[str, Any]) -> list[Any]:
    return [group["units"], group["moved"], group["passing"], group["largest_statistic"]]


def _rest(noun: str, moved: Sequence[dict[str, Any]], total: int) -> list[str]:
    """Say what the table leaves out."""
    said: list[str] = []
    if more := moved[MOST:]:
        units, passing = (sum(group[name] for group in more) for name in ("moved", "passing"))
        said.append(f"{len(more):,} more {noun}s have {units:,} units that moved, of which {passing:,} pass.")
    if still := total - len(moved):
        said.append(f"In {still:,} other {noun}{'' if still == 1 else 's'} nothing moved.")
    return said


def ranges(numbers: Sequence[int]) -> str:
    """Return ascending numbers with ranges in place of what follows each other.

    >>> ranges([0, 1, 2, 5, 7, 8]), ranges([3])
    ('0-2, 5, 7-8', '3')
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)
