"""The command `watch`: the report of a run in progress, on this machine alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ks_lottery.cli.report import open_in_browser

if TYPE_CHECKING:
    from ks_lottery.config.report_commands import WatchSettings


def run(settings: WatchSettings) -> int:
    """Serve the report until the user stops the command."""
    from ks_lottery.recipes.live_page import live_page
    from ks_lottery.report.screen import Screen

    with live_page(settings.run, port=settings.port) as server:
        Screen().say(f"{settings.run} is shown at {server.address} and refreshes by itself; Ctrl-C ends this.")
        if settings.open:
            open_in_browser(server.address)
        server.serve_forever()
    return 0
