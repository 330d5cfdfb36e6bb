"""What a page shows of a scan: what fine-tuning changed, in the whole model, by kind of token, and row by row."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_lottery.corpus.token_kinds import kinds_of_shown
from ks_lottery.recipes.page_rows import row_table
from ks_lottery.report.page_parts import Figure, PagePart, Table, Tile, Tiles
from ks_lottery.report.section import Column, Section
from ks_lottery.report.vega import bars
from ks_lottery.report.vega_maps import heat
from ks_lottery.store.files import read_table
from ks_lottery.tickets.scan import Scan
from ks_lottery.tickets.scan_changes import changes, codes_of_kinds, kinds_section, still_sentence
from ks_lottery.tickets.scan_figures import moves_figure, statistic_figure, tickets_figure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ks_lottery.checkpoint.attribution import Attribution
    from ks_lottery.report.page_parts import Item, RowTable
    from ks_lottery.tickets.span_counts import SpanCounts

MOST_PER_TENSOR = 5
"""Units of each tensor that the table beside the heat map has."""

ALPHA = 0.05
"""Significance level of a page on a scan alone."""


class OpenedScan:
    """A saved scan with the token strings and their kinds that were saved with it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.scan = Scan.open(file)
        columns, _ = read_table(file, "scan")
        tokens: Any = columns.get("token")
        self._tokens = None if tokens is None else [str(text) for text in tokens]
        kinds: Any = columns.get("kind")
        self._kinds = None if kinds is None else [str(text) for text in kinds]

    @cached_property
    def vocabulary(self) -> tuple[Scan, list[str] | None, list[str] | None] | None:
        """Return the scan of the first vocabulary, with its tokens and kinds; None where no tensor's rows are tokens."""
        part = next((part for part in self.scan.parts if self.scan.is_vocabulary(part)), None)
        if part is None:
            return None
        units = self.scan.units(part)
        tokens, kinds = (None if column is None else column[units] for column in (self._tokens, self._kinds))
        known = tokens if tokens is not None and any(tokens) else None
        if kinds is None or not any(kinds):
            kinds = None if known is None else kinds_of_shown(known)
        return self.scan.only(part.tensor), known, kinds


def scan_parts(opened: OpenedScan) -> list[PagePart]:
    """Return the parts of a scan of two checkpoints."""
    scan = opened.scan
    vocabulary = opened.vocabulary
    tokens, kinds = (None, None) if vocabulary is None else vocabulary[1:]
    changed = changes(scan, ALPHA, tokens, kinds)
    summary = scan.summary(ALPHA)
    parts = [
        PagePart(
            title="At a glance",
            sentence="What was compared, and how much of it changed.",
            items=[_tiles(summary, changed)],
        )
    ]
    if len(scan.parts) > 1:
        parts.append(_layers(scan, changed))
    if changed["by_kind"]:
        parts.append(kinds_part(changed))
    if vocabulary is not None:
        command = _more_command(scan)
        parts.append(
            PagePart(
                title="Every row",
                sentence="Sort and filter all rows of the vocabulary; pick a token to see its row before and after.",
                items=[rows_of(opened, ALPHA, more_command=command) or Table(section=Section())],
            )
        )
    parts += [distribution_part(scan, ALPHA), _listed(scan, tokens if len(scan.parts) == 1 else None, changed)]
    return parts


def rows_of(
    opened: OpenedScan,
    alpha: float,
    *,
    spans: SpanCounts | None = None,
    attribution: Attribution | None = None,
    more_command: str = "",
) -> RowTable | None:
    """Return the table of all rows of the vocabulary of a scan; see `row_table`."""
    vocabulary = opened.vocabulary
    if vocabulary is None:
        return None
    scan, tokens, kinds = vocabulary
    codes = None if kinds is None else codes_of_kinds(kinds)
    return row_table(scan, tokens, codes, alpha, spans=spans, attribution=attribution, more_command=more_command)


def distribution_part(scan: Scan, alpha: float) -> PagePart:
    """Return how D and the moves are distributed, and how many units pass at each alpha."""
    if not scan.moved.any():
        return PagePart(title="Distributions", sentence="Nothing moved, so there is nothing to draw.")
    return PagePart(
        title="Distributions",
        sentence="A unit is a ticket where its D is right of the line of alpha; few are, where fine-tuning moves few rows far.",
        items=[statistic_figure(scan, alpha), tickets_figure(scan), moves_figure(scan)],
    )


def kinds_part(changed: Mapping[str, Any]) -> PagePart:
    """Return which kinds of token moved: which text the training saw."""
    kinds = changed["by_kind"]
    lines = [
        (kind["kind"], kind["share"], None, None)
        for kind in sorted(kinds, key=lambda kind: -kind["share"])
        if kind["rows"] >= 5
    ]
    section = kinds_section(changed)
    items: list[Item] = [
        Figure(
            name="moves-by-kind-of-token",
            title="Share of the rows of each kind that moved (kinds with 5 rows or more)",
            spec=bars(lines, "share of rows that moved"),
            numbers=section,
        ),
        Table(
            section=Section(columns=section.columns, rows=section.rows, sentences=[still_sentence(changed)]),
            name="moves-by-kind",
        ),
    ]
    return PagePart(
        title="Which text did it see?",
        sentence="Scripts and kinds of token that moved are those of the training text; the others it never or hardly saw.",
        items=items,
    )


def _tiles(summary: Mapping[str, Any], changed: Mapping[str, Any]) -> Tiles:
    units = summary["units"]
    tiles = [
        Tile(
            label="Units that moved",
            value=f"{summary['rows_moved']:,}",
            note=f"of {units:,}, {summary['rows_moved'] / units:.1%}",
        ),
        Tile(
            label=f"Past the critical D (p < {summary['alpha']:g})",
            value=f"{summary['rows_passing']:,}",
            note=f"D of at least {summary['critical_statistic']:.4f}; the largest is {summary['largest_statistic']:.4f}",
        ),
        Tile(
            label="Largest move",
            value=f"{summary['largest_spread']:.3g}",
            note="of a unit's own spread (standard deviation before)",
        ),
    ]
    if changed["moves"]:
        tiles.append(
            Tile(
                label="Median move",
                value=f"{changed['moves']['0.5']:.3g}",
                note="of the units that moved, same measure",
            )
        )
    for label, key in (("Rows only in the base", "removed"), ("Rows only in the tuned model", "added")):
        if summary[key]:
            tiles.append(Tile(label=label, value=f"{sum(summary[key].values()):,}", note="not compared"))
    if changed["still"] is not None:
        still = changed["still"]
        tiles.append(
            Tile(
                label="Rows that did not move",
                value=f"{still['rows']:,}",
                note=f"{still['share']:.1%} of the vocabulary",
            )
        )
    return Tiles(tiles=tiles)


def _layers(scan: Scan, changed: Mapping[str, Any]) -> PagePart:
    """Return the whole model as a map, and beside it the units of each tensor that changed most."""
    cells = changed["layers"]
    columns = [
        Column(title="tensor"),
        Column(title="layer"),
        Column(title="module"),
        Column(title="units", form="integer"),
        Column(title="moved", form="integer"),
        Column(title="past the critical D", form="integer"),
        Column(title="share", form="percent"),
    ]
    names = ("tensor", "layer", "module", "units", "moved", "passing", "share")
    numbers = Section(columns=columns, rows=[[cell[name] for name in names] for cell in cells])
    unit_columns = [
        Column(title="tensor"),
        Column(title="row", form="d"),
        Column(title="D", form=".4f"),
        Column(title="p", form="pvalue"),
        Column(title="move", form=".3g"),
    ]
    statistics, log_p = scan.statistics, scan.log_pvalues
    rows: list[list[Any]] = []
    for part in scan.parts:
        units = np.arange(part.start, part.start + part.count)
        moved = units[scan.moved[units] > 0]
        for unit in moved[np.lexsort((moved, log_p[moved]))][:MOST_PER_TENSOR].tolist():
            move = float(scan.spread[unit])
            rows.append(
                [
                    part.tensor,
                    unit - part.start,
                    float(statistics[unit]),
                    float(log_p[unit]),
                    move if np.isfinite(move) else None,
                ]
            )
    return PagePart(
        title="The whole model",
        sentence="Bright cells changed most; click one, or filter the table by a tensor's name, to see its first units.",
        items=[
            Figure(
                name="whole-model",
                title=f"Share of units past the critical D (p < {ALPHA:g}), layers by modules",
                spec=heat(cells, "share past the critical D"),
                numbers=numbers,
                link="tensor",
            ),
            Table(
                section=Section(
                    title="First units of each tensor",
                    columns=unit_columns,
                    rows=rows,
                    sentences=[f"The first {MOST_PER_TENSOR} units of each tensor by p that moved."],
                ),
                name="first-units",
            ),
        ],
    )


def _listed(scan: Scan, tokens: Sequence[str] | None, changed: Mapping[str, Any]) -> PagePart:
    """Return what a terminal shows: the first units, and what was compared in sentences."""
    still = still_sentence(changed)
    more = [Section(sentences=[still])] if still and not changed["by_kind"] else []
    sections = [one for one in [*scan.sections(ALPHA, top=30, tokens=tokens), *more] if one.rows or one.sentences]
    items = [Table(section=section, name=f"first-units-by-p-{n}") for n, section in enumerate(sections, start=1)]
    return PagePart(
        title="The first units", sentence="The units with the smallest p, as the command prints them.", items=items
    )


def _more_command(scan: Scan) -> str:
    base = scan.made_from.get("base", {})
    name = base.get("name", "BASE") if isinstance(base, dict) else "BASE"
    return (
        f"ks-lottery scan {name if name.startswith('asset:') else 'BASE'} TUNED --quantile-rows 2000 --out scan.parquet"
    )
