"""How an explanation shows itself: one row a ticket, as table 3 of the paper, and what ranks rows as the KS test does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ks_lottery.config.choices import SPANS
from ks_lottery.report.section import Column, Section, check_top

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HEADS = {
    "cos": "cos", "absolute": "abs", "absolute-signed": "abs+-", "relative": "rel", "kl": "kl",
    "lca": "lca", "gradient": "grad",
}  # fmt: skip
"""Scores that have a column, and its head. `ratio` ranks as `relative`, which stands for both."""


def explanation_sections(content: Mapping[str, Any], top: int) -> list[Section]:
    """Return the first `top` tickets of `Explanation.as_dict`, how far each rival agrees, and what the columns are."""
    rows = content["rows"]
    shown = rows[: check_top(top)]
    if not rows:
        return [Section(sentences=["There is no ticket to explain: the file holds none."])]
    more = [f"... and {len(rows) - top:,} more"] if 0 < top < len(rows) else []
    rivals = [
        Column(title="ranked by"),
        Column(title="Spearman with KS", form="+.3f"),
        Column(title=f"tickets among its first {len(rows):,}", form="integer"),
    ]
    return [
        *([_tickets(shown, more)] if shown else []),
        *([_origins(shown)] if shown and "origin" in shown[0] else []),
        Section(
            columns=rivals,
            rows=[[name, rival["spearman"], rival["shared"]] for name, rival in content["agreement"].items()],
        ),
        Section(sentences=[*_sentences(content), *content["notes"]]),
    ]


def _tickets(rows: Sequence[Mapping[str, Any]], more: Sequence[str]) -> Section:
    tokens = any("token" in row for row in rows)
    often = any("frequency" in row for row in rows)
    scores = [name for name in HEADS if name in rows[0]["ranks"]]
    columns = [
        Column(title="row", form="d"),
        *([Column(title="token", widest=16, cut="end")] if tokens else []),
        Column(title="p", form="pvalue"),
        Column(title="D", form=".4f"),
        *([Column(title="freq.", form="place")] if often else []),
        *(Column(title=HEADS[name], form=".4f") for name in scores),
    ]
    cells = [
        [
            row["row"],
            *([row.get("token", "")] if tokens else []),
            row["log_pvalue"],
            row["statistic"],
            *([row["frequency_rank"] if row["frequency"] else "never"] if often else []),
            *(row["ranks"][name] for name in scores),
        ]
        for row in rows
    ]
    return Section(columns=columns, rows=cells, sentences=more, keys=1 + tokens)


def _origins(rows: Sequence[Mapping[str, Any]]) -> Section:
    """Return where the token of each ticket stands in the training text."""
    tokens = any("token" in row for row in rows)
    columns = [
        Column(title="row", form="d"),
        *([Column(title="token", widest=16)] if tokens else []),
        *(Column(title=name, form="integer") for name in SPANS),
        Column(title="template row"),
    ]
    cells = [
        [
            row["row"],
            *([row.get("token", "")] if tokens else []),
            *row["origin"].values(),
            "yes" if row["template"] else "",
        ]
        for row in rows
    ]
    return Section(columns=columns, rows=cells)


def _sentences(content: Mapping[str, Any]) -> list[str]:
    """Say what the columns are."""
    size, corpus = content["vocabulary"], content["corpus"]
    lines = [
        f"The columns from cos on are ranks divided by {size:,}; a small value means important. abs is the mean of "
        "|after - before|; abs+- is the mean of after - before. rel stands for relative and ratio, whose ranks are the same."
    ]
    if corpus is not None:
        lines.append(
            f"freq. is the rank of the token among {corpus['tokens']:,} tokens of {corpus['sentences']:,} sentences in "
            f"{corpus['text']}, 1 for the most frequent, ties averaged."
        )
    if content["template_rows"] is not None:
        lines.append(
            f"instruction, source and target: occurrences in the training text; {content['template_rows']:,} of the "
            f"{len(content['rows']):,} tickets are template rows, whose tokens stand in the instruction."
        )
    return [*lines, f"Spearman's correlation is over the {content['moved']:,} rows that moved."]
