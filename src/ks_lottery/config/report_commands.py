"""Settings of the commands that show results: report and watch."""

from __future__ import annotations

from dataclasses import dataclass

from ks_lottery.config.checked import Checked
from ks_lottery.config.fields import setting
from ks_lottery.config.ranges import Range


@dataclass(frozen=True, kw_only=True)
class ReportSettings(Checked):
    """Settings of the command `report`."""

    paths: tuple[str, ...] = setting(positional=True, metavar="PATH")
    """Run folders, folders that other commands wrote with --out, a recipe's results, or files of scans, tickets, certificates,
    evaluations and span effects; several are shown side by side."""
    out: str | None = setting(None, metavar="FILE", writes="file")
    """HTML file to write; report.html in the folder of a run, or a name beside another path, unless given."""
    open: bool = False
    """Open the page in the browser."""


@dataclass(frozen=True, kw_only=True)
class WatchSettings(Checked):
    """Settings of the command `watch`."""

    run: str = setting(positional=True, metavar="RUN")
    """Folder of a run, finished or in progress."""
    port: int = setting(0, metavar="N", within=Range(kind=int, low=0, high=65535))
    """Port on 127.0.0.1; 0 for a free one."""
    open: bool = False
    """Open the page in the browser."""
