"""The rows of a patch in its model card: how many, by which rule, at which level, and the first tokens."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ks_lottery.config.choices import METHODS, SELECTORS
from ks_lottery.errors import UserError
from ks_lottery.models.vocabulary import display, vocabulary_of_source
from ks_lottery.report.forms import counted
from ks_lottery.report.section import Column, Section
from ks_lottery.store.json_content import read_object
from ks_lottery.store.schema import is_number, is_whole

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ks_lottery.checkpoint.patch import RowPatch
    from ks_lottery.checkpoint.reader import Checkpoint

FIRST = 20
"""Tokens that a card shows."""

LONGEST = 80
"""Characters of a token that a card shows."""

ROWS_FILE = "rows.json"
"""File beside a patch that has its rows in the order of the rule that chose them."""


def method_sentence(settings: Mapping[str, Any]) -> str:
    """Say by which method of the paper something was trained, as far as that is recorded."""
    name = settings.get("method")
    if not isinstance(name, str) or not name:
        return "Its method is not recorded."
    known = METHODS.get(name)
    restricted = "" if settings.get("restricted_from") is None else (
        " Of the result, only the tickets' values are kept (partial transfer)."
    )  # fmt: skip
    return f"Method: {name}{'' if known is None else f' tuning, which trains {known.trains}'}.{restricted}"


def tickets_section(checkpoint: Checkpoint, patch: RowPatch) -> Section:
    """Return number, rule and level of the rows as sentences, and the first tokens as a table.

    Parameters
    ----------
    checkpoint
        The base, whose tokenizer names the rows; rows of a base without one have their number alone.
    patch
        The rows. In their order of selection where a file of theirs beside the patch has it, otherwise ascending.
    """
    ordered = _in_order(patch)
    ids = patch.ids.tolist() if ordered is None else ordered
    try:
        vocabulary = vocabulary_of_source(checkpoint)
    except UserError:  # the rows are what they are, whatever their tokenizer has become
        vocabulary = None
    known = () if vocabulary is None else vocabulary.shown
    new = {} if patch.added is None else dict(zip(patch.added.ids, map(display, patch.added.texts), strict=True))
    names = "" if vocabulary is not None else " The base has no tokenizer that can be read, so that rows have no token."
    order = "in ascending order" if ordered is None else "in the order of the rule"
    return Section(
        columns=[Column(title="row", form="integer"), *([Column(title="token")] if known else [])],
        rows=[
            [i, *([new.get(i, known[i] if i < len(known) else "''")[:LONGEST]] if known else [])] for i in ids[:FIRST]
        ],
        sentences=[
            f"{counted(len(patch), 'row')}, {_rule(patch.settings)}. Shown: "
            f"{'all' if len(ids) <= FIRST else f'the first {FIRST}'}, {order}; tokens are quoted and escaped.{names}"
        ],
    )


def _rule(settings: Mapping[str, Any]) -> str:
    rule = settings.get("rule")
    if not isinstance(rule, dict) or not rule:
        return "by a rule that is not recorded"
    name, level = rule.get("selector"), rule.get("alpha")
    meaning = SELECTORS.get(name, "") if isinstance(name, str) else ""
    at = f" at level {level:g}" if is_number(level) else ""
    rest = {key: value for key, value in rule.items() if key not in {"selector", "alpha"}}
    more = f"; {json.dumps(rest, ensure_ascii=False)[:300]}" if rest else ""
    return f"chosen by {name}{f' ({meaning})' if meaning else ''}{at}{more}"


def _in_order(patch: RowPatch) -> list[int] | None:
    """Return the rows in the order that they were chosen in, of the file beside the patch, where it is of these rows."""
    file = None if patch.folder is None else patch.folder / ROWS_FILE
    if file is None or not file.is_file():
        return None
    try:
        listed = read_object(file).get("rows")
    except UserError:
        return None
    rows: list[Any] = [entry.get("row") if isinstance(entry, dict) else None for entry in listed or ()]
    return rows if all(map(is_whole, rows)) and sorted(rows) == patch.ids.tolist() else None
