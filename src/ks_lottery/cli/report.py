"""The command `report`: one HTML page from what was saved."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ks_lottery.config.report_commands import ReportSettings


def run(settings: ReportSettings) -> int:
    """Run the command and return its exit code."""
    from ks_lottery.recipes.page import write_report
    from ks_lottery.report.forms import size
    from ks_lottery.report.screen import Screen

    file = write_report(settings.paths, settings.out)
    Screen().say(f"Written to {file}, {size(file.stat().st_size)}.")
    if settings.open:
        open_in_browser(file.resolve().as_uri())
    return 0


def open_in_browser(address: str) -> None:
    """Open an address in the user's browser, or say that there is none."""
    import webbrowser

    from ks_lottery.cli.streams import complain

    if not webbrowser.open(address):
        complain(f"no browser can be started here: open {address} in one")
