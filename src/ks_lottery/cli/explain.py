"""The command `explain`: what tickets are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ks_lottery.cli.streams import write

if TYPE_CHECKING:
    from ks_lottery.config.ticket_commands import ExplainSettings


def run(settings: ExplainSettings) -> int:
    """Run the command and return its exit code."""
    from ks_lottery.report.screen import Screen
    from ks_lottery.store.files import to_json
    from ks_lottery.tickets.saved import explain_saved

    explanation = explain_saved(
        settings.tickets,
        settings.scan,
        tensor=settings.tensor,
        corpus=None if settings.corpus is None else settings.first_text(settings.corpus),
        attribution=settings.attribution,
        model=settings.model,
    )
    sections = explanation.sections(settings.top)
    if settings.out:
        explanation.save(settings.out)
    if settings.json:
        write(to_json(explanation.as_dict()))
        return 0
    screen = Screen()
    screen.show(sections)
    if settings.out:
        screen.say(f"Every ticket lies in {settings.out}.")
    return 0
