"""The command `alike`: whether two tunings left rows with values distributed alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ks_lottery.cli.streams import write

if TYPE_CHECKING:
    from ks_lottery.config.ticket_commands import AlikeSettings


def run(settings: AlikeSettings) -> int:
    """Run the command and return its exit code."""
    from ks_lottery.report.screen import Screen
    from ks_lottery.store.files import to_json
    from ks_lottery.tickets.saved import alike_saved

    comparison = alike_saved(
        settings.embed, settings.partial, settings.tickets, level=settings.level, side=settings.side
    )
    sections = comparison.sections(settings.top)
    if settings.out:
        comparison.save(settings.out)
    if settings.json:
        write(to_json(comparison.as_dict()))
        return 0
    screen = Screen()
    screen.show(sections)
    if settings.out:
        screen.say(f"Every row lies in {settings.out}.")
    return 0
