"""The command `translate`: sentences through the small model of a run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ks_lottery.cli.streams import complain, write

if TYPE_CHECKING:
    from ks_lottery.config.job_commands import TranslateSettings


def run(settings: TranslateSettings) -> int:
    """Run the command and return its exit code."""
    from ks_lottery.corpus.lines import decoded_lines
    from ks_lottery.recipes.translation import translate_with_run

    sentences = settings.sentences or [line for _, line in decoded_lines(sys.stdin.buffer, "standard input")]
    answers = translate_with_run(
        Path(settings.run),
        sentences,
        method=settings.method,
        compare=settings.compare,
        template=settings.template,
        warn=complain,
    )
    for answer in answers:
        if settings.compare:
            name = f"{settings.method}:"
            write(f"source:   {answer.source}\noriginal: {answer.original}\n{name:<9} {answer.small}\n")
        else:
            write(f"{answer.small}\n")
    return 0
