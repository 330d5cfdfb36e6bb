"""How two compared tunings show themselves: how many rows differ, and those that differ most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ks_lottery.report.section import Column, Section, check_top

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def agreement_sections(content: Mapping[str, Any], top: int) -> list[Section]:
    """Return the cell of table 6, what was compared, and the `top` rows that differ most; see `ComparedTunings.as_dict`."""
    rows = content["rows"]
    shown = rows[: check_top(top)]
    more = [f"... and {len(rows) - top:,} more that differ less"] if 0 < top < len(rows) else []
    return [
        _cell(content),
        Section(sentences=_sentences(content)),
        *([_rows(shown, more)] if shown else []),
    ]


def _cell(content: Mapping[str, Any]) -> Section:
    """Return one row: the alpha that selected the tickets, the level of this test, and what came out."""
    columns = [
        Column(title="tickets at alpha", form="g"),
        Column(title="level", form="g"),
        Column(title="critical D", form=".4f"),
        Column(title="compared", form="integer"),
        Column(title="changed", form="integer"),
        Column(title="unchanged", form=".3f"),
    ]
    critical = content["critical_statistic"]
    row = [
        content["alpha"],
        content["level"],
        critical if critical <= 1 else None,
        content["compared"],
        content["changed"],
        content["unchanged"],
    ]
    return Section(columns=columns, rows=[row])


def _rows(rows: Sequence[Mapping[str, Any]], more: Sequence[str]) -> Section:
    tokens = any("token" in row for row in rows)
    columns = [
        Column(title="row", form="d"),
        *([Column(title="token", widest=24, cut="end")] if tokens else []),
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
    return Section(columns=columns, rows=cells, sentences=more, keys=1 + tokens)


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
        f"A row counts as changed when p < {content['level']:g}, the level of this test, which the paper does not name. "
        "Unchanged means that the test sees no difference at this width."
    )
    return [*lines, _table_6(content)]


def _table_6(content: Mapping[str, Any]) -> str:
    """Say whether the figure is a cell of table 6."""
    if content["alpha"] is None and content["selector"] is not None:
        return (
            f"These rows were selected by {content['selector']} and not by an alpha, so this is not a cell of the paper's "
            "table 6."
        )
    if content["alpha"] is None:
        return (
            "No alpha is recorded for these rows, so this is not a cell of the paper's table 6. Give --tickets with a file "
            "that select --alpha wrote."
        )
    if not content["own_tickets"]:
        return (
            f"The tickets were selected at alpha {content['alpha']:g}, but the second patch changes other rows than these: in "
            "the paper's table 6 each alpha has a partial tuning of its own tickets."
        )
    return f"This is the cell of the paper's table 6 for alpha {content['alpha']:g}, which selected the tickets."
