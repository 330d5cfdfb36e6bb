"""The command `explain`: what tickets are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ks_lottery.cli.output import deliver

if TYPE_CHECKING:
    from ks_lottery.config.ticket_commands import ExplainSettings


def run(settings: ExplainSettings) -> int:
    """Run the command and return its exit code."""
    from ks_lottery.tickets.saved import explain_saved

    explanation = explain_saved(
        settings.tickets,
        settings.scan,
        tensor=settings.tensor,
        corpus=None if settings.corpus is None else settings.first_text(settings.corpus),
        attribution=settings.attribution,
        model=settings.model,
    )
    deliver(
        settings, "ticket",
        save=explanation.save, content=explanation.as_dict, sections=lambda: explanation.sections(settings.top),
    )  # fmt: skip
    return 0
