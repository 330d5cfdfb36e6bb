"""The command `alike`: test if two tunings gave the same rows similar values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ks_lottery.cli.output import deliver

if TYPE_CHECKING:
    from ks_lottery.config.ticket_commands import AlikeSettings


def run(settings: AlikeSettings) -> int:
    """Run the command and return its exit code."""
    from ks_lottery.tickets.saved import alike_saved

    comparison = alike_saved(
        settings.embed, settings.partial, settings.tickets, level=settings.level, side=settings.side
    )
    deliver(
        settings, "row",
        save=comparison.save, content=comparison.as_dict, sections=lambda: comparison.sections(settings.top),
    )  # fmt: skip
    return 0
