"""How two compared tunings show themselves: how many rows differ at each alpha, and those that differ most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ks_lottery.report.section import Column, Section, check_top

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def agreement_sections(content: Mapping[str, Any], top: int) -> list[Section]:
    """Return table 6 of the paper, what was compared, and the `top` rows that differ most; see `ComparedTunings.as_dict`."""
    rows = content["rows"]
    shown = rows[: check_top(top)]
    more = [f"... and {len(rows) - top:,} more that differ less"] if 0 < top < len(rows) else []
    return [
        _levels(content["levels"]),
        Section(sentences=_sentences(content)),
        *([_rows(shown, more)] if shown else []),
    ]


def _levels(levels: Sequence[Mapping[str, Any]]) -> Section:
    """Return one row an alpha."""
    columns = [
        Column(title="alpha", form="g"),
        Column(title="critical D", form=".4f"),
        Column(title="compared", form="integer"),
        Column(title="changed", form="integer"),
        Column(title="unchanged", form=".3f"),
    ]
    rows = [
        [
            level["alpha"],
            level["critical_statistic"] if level["critical_statistic"] <= 1 else None,
            level["compared"],
            level["changed"],
            level["unchanged"],
        ]
        for level in levels
    ]
    return Section(columns=columns, rows=rows)


def _rows(rows: Sequence[Mapping[str, Any]], more: Sequence[str]) -> Section:
    tokens = any("token" in row for row in rows)
    columns = [
        Column(title="row", form="d"),
        *([Column(title="token", widest=24)] if tokens else []),
        Column(title="k", form="d"),
        Column(title="D", form=".4f"),
        Column(title="p", form="pvalue"),
    ]
    cells = [
        [
            row["row"],
            *([row.get("token", "")] if tokens else []),
            row["count"],
            row["statistic"],
            row["log_pvalue"],
        ]
        for row in rows
    ]
    return Section(columns=columns, rows=cells, sentences=more)


def _sentences(content: Mapping[str, Any]) -> list[str]:
    """Say what was compared with what, and what was not."""
    compared, apart = content["compared"], content["not_compared"]
    lines = [
        f"{compared:,} rows of the {content['side']} embedding compared, {content['width']:,} coordinates each: values of "
        "one tuning against those of the other."
    ]
    named = {
        "only_embed": "only the first patch changes",
        "only_partial": "only the second patch changes",
        "in_neither": "neither patch changes",
    }
    others = [f"{apart[name]:,} that {words}" for name, words in named.items() if apart[name]]
    if others:
        lines.append(f"Not compared: {', '.join(others)}.")
    lines.append(
        "A row counts as changed when p < alpha; the share of the others is that of the paper's table 6. "
        "Unchanged means that the test sees no difference at this width."
    )
    return lines
