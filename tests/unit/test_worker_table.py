"""The lines of workers: one for each finished stage, and on a terminal what each worker does."""

from __future__ import annotations

import io

from rich.console import Console

from ks_lottery.report.screen import Screen
from ks_lottery.report.worker_table import WorkerTable


def shown(*, terminal: bool) -> str:
    text = io.StringIO()
    table = WorkerTable(Screen(0, Console(file=text, force_terminal=terminal, width=60, color_system=None)), 12)
    with table.shown():
        table.works(1, "scan \x1b[31m[bold]")
        table.works(2, "embed tuning")
        table.works(2, "lora tuning")
        table.finished("scan", "1.0 s, worker 1")
    return text.getvalue()


def test_a_file_has_the_finished_stages_alone():
    assert shown(terminal=False) == "[ 1/12] scan: 1.0 s, worker 1\n"


def test_a_terminal_shows_what_each_worker_does():
    text = shown(terminal=True)
    assert "[ 1/12] scan: 1.0 s, worker 1" in text
    for line in ("1 of 12 stages", r"worker 1: scan \x1b[31m[bold]", "worker 2: lora tuning"):
        assert line in text
