"""Texts of a run for the page: translations with their differences marked, and an example in the colours of its spans."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any

from ks_lottery.corpus.prompts import TEMPLATES, instruction, render_prompt, template_text
from ks_lottery.errors import UserError
from ks_lottery.report.page_parts import Passages, SideBySide

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

INSTRUCTION, SOURCE, TARGET = "instruction", "source", "target"

MOST_TEXTS = 12
"""Translations that are shown."""


def differences(reference: str, text: str) -> list[tuple[str, bool]]:
    """Return a text in pieces, each with whether the reference lacks it; words are compared.

    >>> differences("the old house", "the new house")
    [('the', False), (' ', False), ('new', True), (' ', False), ('house', False)]
    """
    words, there = re.findall(r"\S+", text), re.findall(r"\S+", reference)
    spaces = re.split(r"\S+", text)
    pieces: list[tuple[str, bool]] = [(spaces[0], False)]
    for kind, _, _, start, stop in SequenceMatcher(None, there, words, autojunk=False).get_opcodes():
        if stop > start:
            inner = "".join(
                f"{word}{space}" for word, space in zip(words[start : stop - 1], spaces[start + 1 : stop], strict=True)
            )
            pieces += [(inner + words[stop - 1], kind != "equal"), (spaces[stop], False)]
    return [piece for piece in pieces if piece[0]]


def translations(outputs: Mapping[str, Sequence[Mapping[str, Any]]], titles: Mapping[str, str]) -> SideBySide | None:
    """Return translations side by side: source, reference, and each system with what the reference lacks marked.

    Parameters
    ----------
    outputs
        System to its saved translations, of which those with the same source are shown together.
    titles
        What each system is called.
    """
    by_source = {name: {row["source"]: row for row in rows} for name, rows in outputs.items() if rows}
    if not by_source:
        return None
    first = next(iter(by_source.values()))
    shared = [row for source, row in first.items() if all(source in rows for rows in by_source.values())]
    lines: list[list[list[tuple[str, bool]]]] = []
    for row in shared[:MOST_TEXTS]:
        reference = str(row.get("reference") or "")
        lines.append(
            [
                [(str(row["source"]), False)], [(reference, False)],
                *(differences(reference, str(rows[row["source"]]["hypothesis"])) for rows in by_source.values()),
            ]
        )  # fmt: skip
    if not lines:
        return None
    return SideBySide(titles=("source", "reference", *(titles.get(name, name) for name in by_source)), lines=lines)


def example_in_spans(
    template: str, source: str, target: str, languages: tuple[str, str], order: str | None = None
) -> Passages | None:
    """Return one example as the model sees it, its instruction, source and target in colours.

    Returns
    -------
    Passages or None
        None for a template that only the tokenizer knows, such as its chat template.
    """
    if template not in TEMPLATES and "{source}" not in template:
        return None
    mark = "\ue000"
    try:
        text = render_prompt(template_text(template, languages), order or instruction(*languages), mark, languages)
    except UserError:
        return None
    before, _, after = text.partition(mark)
    pieces = [(before, INSTRUCTION), (source, SOURCE), (after, INSTRUCTION), (target, TARGET)]
    return Passages(
        names=(INSTRUCTION, SOURCE, TARGET),
        passages=[("One example as the model sees it", [piece for piece in pieces if piece[0]])],
    )
