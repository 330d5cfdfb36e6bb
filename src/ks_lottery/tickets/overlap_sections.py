"""How sets of tickets show what they share: pair by pair, and row by row as in table 8 of the paper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ks_lottery.report.section import Column, Section, check_top

if TYPE_CHECKING:
    from collections.abc import Mapping

WIDEST_TOKEN = 20
WIDEST_NAME = 16
"""Characters of a terminal that a token, and the name of a set, take at most."""

MOST_NAMED = 30
"""Common rows that are named in a sentence."""


def overlap_sections(content: Mapping[str, Any], heads: Mapping[str, str], top: int) -> list[Section]:
    """Return the pairs, the first `top` rows side by side, and what is common.

    Parameters
    ----------
    content
        `SharedRows.as_dict`.
    heads
        What stands over the column of each set, by name.
    """
    shown = content["rows"][: check_top(top)]
    sentences = _sentences(content)
    if not shown:
        return [_pairs(content, sentences)]
    tokens = any("token" in row for row in shown)
    columns = [
        Column(title="row", form="d"),
        *([Column(title="token", widest=WIDEST_TOKEN, cut="end")] if tokens else []),
        Column(title="sets", form="d"),
        *(Column(title=head, form="d", widest=WIDEST_NAME, cut="begin") for head in heads.values()),
    ]
    rows = [
        [
            row["row"],
            *([row.get("token", "")] if tokens else []),
            row["sets"],
            *(row["places"].get(name, "") for name in heads),
        ]
        for row in shown
    ]
    hidden = len(content["rows"]) - len(shown)
    more = [f"... and {hidden:,} more rows"] if hidden else []
    reading = "The columns of the sets show the row's position in each set; 1 is the first ticket."
    return [
        _pairs(content, []),
        Section(columns=columns, rows=rows, sentences=more, keys=3 if tokens else 2),
        Section(sentences=[reading, *sentences]),
    ]


def _pairs(content: Mapping[str, Any], sentences: list[str]) -> Section:
    columns = [
        Column(title="one", cut="begin"),
        Column(title="other", cut="begin"),
        Column(title="rows of one", form="integer"),
        Column(title="rows of other", form="integer"),
        Column(title="shared", form="integer"),
        Column(title="Jaccard", form=".3f"),
    ]
    rows = [[pair["one"], pair["other"], *pair["sizes"], pair["shared"], pair["jaccard"]] for pair in content["pairs"]]
    if content["seeds"]:
        columns += [Column(title="ceiling: shared", form=".1f"), Column(title="ceiling: Jaccard", form=".3f")]
        rows = [[*row, *pair["ceiling"].values()] for row, pair in zip(rows, content["pairs"], strict=True)]
    return Section(columns=columns, rows=rows, sentences=sentences, keys=2)


def _sentences(content: Mapping[str, Any]) -> list[str]:
    """Say which rows are in all sets, and how many are in some."""
    every, common, spread = content["rows"], content["in_all"], content["by_sets"]
    total = len(content["sets"])
    named = ", ".join(
        f"{row['row']} {row['token']}" if "token" in row else str(row["row"]) for row in common[:MOST_NAMED]
    )
    more = f", and {len(common) - MOST_NAMED:,} more" if len(common) > MOST_NAMED else ""
    lines = [
        f"{len(common):,} of {len(every):,} rows are in all {total} sets{': ' if common else ''}{named}{more}.",
    ]
    some = [f"{count:,} in {number}" for number, count in spread.items() if int(number) < total and count]
    if some:
        lines.append(f"Of the others, {', '.join(some)}.")
    if content["seeds"]:
        lines.append(
            f"ceiling: what {len(content['seeds'])} training seeds of one setting share, two at a time, of their first "
            "rows as many as each set has."
        )
    return [*lines, *content["notes"]]
