"""How a scan shows itself: the units that moved most, and whether the test could see anything."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_lottery.config.choices import SCORES
from ks_lottery.report.forms import counted, rounded_up
from ks_lottery.report.section import Column, Section, check_top
from ks_lottery.tickets.scan_groups import group_sections

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ks_lottery.tickets.scan import Scan

WEIGHT = ".weight"
"""Ending of the names of most tensors, which tells nothing."""

LARGEST = 1000.0
"""Largest factor of the moves that a shortfall is measured to."""

FIRST_NAMED = 3
"""Tensors that are named in a sentence."""

MOST_NAMED = 8
"""Rows of one side alone that are named in a sentence."""

FIGURES = {
    "count": Column(title="k", form="d", drop=2),
    "statistic": Column(title="D", form=".4f"),
    "log_pvalue": Column(title="p", form="pvalue"),
    "moved": Column(title="changed", form="d", drop=5),
    "distance": Column(title="L2", form=".3g", drop=4),
    "largest": Column(title="largest", form=".3g", drop=6),
    "spread": Column(title="move/spread", form=".3g", drop=3),
    "cos": Column(title="cos", form=".3g", drop=7),
    "kl": Column(title="kl", form=".3g", drop=8),
}
"""Columns of the table."""


def sections(
    summary: Mapping[str, Any],
    grouped: dict[str, list[dict[str, Any]]],
    units: Sequence[Mapping[str, Any]],
    only: Mapping[str, Sequence[tuple[int, str]]] | None = None,
) -> list[Section]:
    """Return what changed by tensor and layer, the table of `units` (see `top`), and the sentences of `Scan.summary`.

    Parameters
    ----------
    grouped
        See `ks_lottery.tickets.scan_groups.groups`.
    only
        By ``base`` and ``tuned``, the rows that one side alone has, each with its token string.
    """
    several = len({row["tensor"] for row in units}) > 1
    tokens = any(row.get("token") for row in units)
    columns = [
        *([Column(title="tensor", cut="begin", ending=WEIGHT)] if several else []),
        Column(title="row", form="d"),
        *([Column(title="token", cut="end")] if tokens else []),
        *FIGURES.values(),
    ]
    rows = [
        [
            *([row["tensor"]] if several else []),
            row["row"],
            *([row.get("token", "")] if tokens else []),
            *(row[name] for name in FIGURES),
        ]
        for row in units
    ]
    keys = 1 + several + tokens
    first = group_sections(grouped, summary["alpha"])
    title = "Units with the smallest p" if first and rows else ""
    table = Section(title=title, columns=columns, rows=rows, keys=keys)
    return [*first, table, Section(sentences=sentences(summary, only))]


def top(scan: Scan, most: int, tokens: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Return the units with the smallest p, those that did not move apart, in plain values; see `Scan.top`."""
    log_p, scores = scan.log_pvalues, {name: scan.score(name) for name in SCORES if name != "ks"}
    order = scan.by_pvalue()[: check_top(most)]
    listed: list[dict[str, Any]] = []
    for unit in order[scan.moved[order] > 0].tolist():
        part = scan.part_of(unit)
        row = unit - part.start
        token = {} if tokens is None else {"token": scan.tokens_of(part, tokens)[row]}
        listed.append(
            {
                "tensor": part.tensor,
                "row": row,
                **token,
                "count": int(scan.counts[unit]),
                "width": part.width,
                "statistic": float(scan.counts[unit] / part.width),
                "pvalue": float(np.exp(log_p[unit])),
                "log_pvalue": float(log_p[unit]),
                "moved": int(scan.moved[unit]),
                "distance": _plain(scan.distance[unit]),
                "largest": _plain(scan.largest[unit]),
                "spread": _plain(scan.spread[unit]),
                **{name: _plain(values[unit]) for name, values in scores.items()},
            }
        )
    return listed


def _plain(value: Any) -> float | None:
    """Return a number that JSON has."""
    return float(value) if math.isfinite(value) else None


def sentences(summary: Mapping[str, Any], only: Mapping[str, Sequence[tuple[int, str]]] | None = None) -> list[str]:
    """Say what was compared, how many units pass at each alpha, and whether the test had power at all."""
    kinds = " and ".join(summary["compared_as"])
    what = f"{counted(summary['units'], 'unit')} of {counted(summary['tensors'], 'tensor')}, compared as {kinds}"
    lines = [f"{what}; {summary['rows_moved']:,} moved."]
    for side, rows in (("base", summary["removed"]), ("tuned", summary["added"])):
        lines += [
            f"{tensor}: {counted(count, 'row')} {_be(count)} only in the {side} model and not compared"
            f"{_named((only or {}).get(side, ()))}."
            for tensor, count in rows.items()
        ]
    lines += _uncompared(summary)
    if not summary["rows_moved"]:
        return [*lines, _nothing_changed(summary)]
    if summary["correction"] != "none":
        lines.append(f"p-values are corrected by {summary['correction']} for all {summary['units']:,} units.")
    passing = "; ".join(
        f"{level['rows_passing']:,} pass p < {level['alpha']:g} (D of {level['critical_statistic']:.4f})"
        for level in summary["levels"]
    )
    largest, spread = summary["largest_statistic"], summary["largest_spread"]
    lines.append(f"{passing}. The largest D is {largest:.4f}, the largest move {spread:.3g} of a unit's own spread.")
    if not summary["rows_passing"]:
        lines.append(f"Nothing passes p < {summary['alpha']:g}{no_power(summary)}.")
    return lines


FAULTS = {
    "only_in_base": ("is only in the base model", "are only in the base model"),
    "only_in_tuned": ("is only in the tuned model", "are only in the tuned model"),
    "unequal": ("has another shape on each side", "have another shape on each side"),
    "integers": ("differs, but does not contain floats", "differ, but do not contain floats"),
}
"""Why a tensor, or several, were not compared."""


def _uncompared(summary: Mapping[str, Any]) -> list[str]:
    """Name tensors that were compared under two names, and those that were not compared."""
    lines: list[str] = []
    if summary["matched"]:
        one, other = next(iter(summary["matched"].items()))
        lines.append(
            f"{counted(len(summary['matched']), 'tensor')} matched by name without prefix, such as {one} and {other}."
        )
    for key, faults in FAULTS.items():
        names = summary[key]
        if names:
            fault = faults[len(names) > 1]
            lines.append(f"{counted(len(names), 'tensor')} {fault} and not compared: {_listed(names)}.")
    return lines


def _be(number: int) -> str:
    return "is" if number == 1 else "are"


def _listed(names: Sequence[str]) -> str:
    """Return the first names of a list."""
    return f"{', '.join(names[:FIRST_NAMED])}{', ...' if len(names) > FIRST_NAMED else ''}"


def _nothing_changed(summary: Mapping[str, Any]) -> str:
    """Say that nothing changed, as far as it was compared."""
    what = {"embedding": "The embedding", "output": "The output embedding"}.get(summary["compared"])
    if any(summary[key] for key in FAULTS) or summary["removed"] or summary["added"]:
        return "Nothing changed in what was compared."
    if summary["pattern"]:
        return f"Nothing changed in the tensors that match {summary['pattern']}."
    if summary["elsewhere"]:
        other = "tensor" if summary["elsewhere"] == 1 else "tensors"
        start = f"{what} did not change" if what else "No matrix changed"
        return f"{start}; {summary['elsewhere']:,} other {other} did: `units=all` compares them."
    if summary["elsewhere"] is None and what:
        return f"{what} did not change; nothing else was compared: `units=all` compares every tensor."
    if summary["elsewhere"] is None and summary["compared"] == "matrix-rows":
        return "No matrix changed; nothing else was compared: `units=all` compares every tensor."
    return "Nothing changed."


def no_power(power: Mapping[str, Any]) -> str:
    """Say by which factor moves fall short, as the end of a sentence; nothing where it was not measured (see `Scan.power`)."""
    if not power.get("measured_shortfall"):
        return ""
    if power["needed"] is None:
        return (
            f": the changes are too small for the test. Measured: even {LARGEST:,.0f} times as large, none would pass"
        )
    return (
        f": the changes are too small for the test. If they were {rounded_up(power['needed'], 2)} times as large, one "
        "unit would pass. This factor was measured on this pair of models and does not hold for other texts or settings"
    )


def _named(rows: Sequence[tuple[int, str]]) -> str:
    named = ", ".join(f"{row} {token}" for row, token in rows[:MOST_NAMED])
    return f": {named}{', ...' if len(rows) > MOST_NAMED else ''}" if rows else ""
