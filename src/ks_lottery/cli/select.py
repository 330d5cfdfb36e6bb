"""The command `select`: tickets from a saved scan."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ks_lottery.cli.output import is_stream, see_it, write_result

if TYPE_CHECKING:
    from ks_lottery.config.ticket_commands import SelectSettings


def run(settings: SelectSettings) -> int:
    """Run the command and return its exit code."""
    from ks_lottery.report.screen import Screen
    from ks_lottery.tickets.basis import basis_of, open_scan, tokens_of_base
    from ks_lottery.tickets.select import not_empty
    from ks_lottery.tickets.selectors import select_rows

    scan = open_scan(settings.scan, settings.tensor)
    basis = basis_of(
        settings.by,
        scan,
        settings.scan,
        size=settings.top_k,
        alpha=settings.alpha,
        interval=settings.interval,
        correction=settings.correction,
        without=settings.without,
        seed=settings.seed,
        corpus=None if settings.corpus is None else settings.first_text(settings.corpus),
        template=settings.template,
        attribution=settings.attribution,
        model=settings.model,
        stage=partial(Screen().stage, silent=is_stream(settings.out)),
    )
    tickets = not_empty(select_rows(settings.by, basis), scan, allow_empty=settings.allow_empty)
    tokens = tokens_of_base(scan, settings.model)
    write_result(lambda file: tickets.save(file, tokens), settings.out)
    if not is_stream(settings.out):
        screen = Screen()
        screen.say(f"{len(tickets):,} of {len(scan):,} rows written to {settings.out}")
        screen.say(see_it(settings.out))
    return 0
