"""The command `translate`: sentences through a model, and what was made of it."""

from __future__ import annotations

import sys
from dataclasses import fields
from typing import TYPE_CHECKING

from ks_lottery.cli.streams import complain, write

if TYPE_CHECKING:
    from ks_lottery.config.job_commands import TranslateSettings


def run(settings: TranslateSettings) -> int:
    """Run the command and return its exit code."""
    from ks_lottery.corpus.lines import decoded_lines
    from ks_lottery.recipes.translation import translate_sentences

    sentences = settings.sentences or [line for _, line in decoded_lines(sys.stdin.buffer, "standard input")]
    given = {
        item.name: getattr(settings, item.name) for item in fields(settings) if item.name not in {"model", "sentences"}
    }
    for answer in translate_sentences(settings.model, sentences, **given, warn=complain):
        if settings.compare:
            write(f"source:   {answer.source}\noriginal: {answer.original}\n{answer.name + ':':<9} {answer.small}\n")
        else:
            write(f"{answer.small}\n")
    return 0
