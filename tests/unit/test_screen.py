"""Progress on the screen: what a stage and a training say when they end."""

from __future__ import annotations

import io
from dataclasses import dataclass

import pytest
from rich.console import Console

from ks_lottery.report.screen import Screen


def test_a_stage_says_its_pace(monkeypatch):
    """Neither what was done before nor the time before the first call counts."""
    clock = iter([0.0, 10.0, 12.0, 14.0, 15.0])
    monkeypatch.setattr("ks_lottery.report.screen.time.perf_counter", lambda: next(clock))
    out = io.StringIO()
    screen = Screen(1, Console(file=out, width=100))
    with screen.stage("translate", unit="sentences") as tick:
        for done in (4, 9, 14):
            tick(done, 14)
    assert out.getvalue() == "[ 1/1] translate: 15.0 s, 2.5 sentences/s\n"


@pytest.mark.parametrize("calls", [[], [3], [3, 3]])
def test_a_stage_without_work_says_no_pace(calls):
    out = io.StringIO()
    with Screen(1, Console(file=out, width=100)).stage("translate", unit="sentences") as tick:
        for done in calls:
            tick(done, 3)
    assert "/s" not in out.getvalue()


@dataclass
class Progress:
    step: int
    steps: int
    tokens: int
    loss: float | None


def test_a_training_says_its_tokens_a_second_without_the_first_step(monkeypatch):
    clock = iter([0.0, 10.0, 12.0, 14.0, 15.0])
    monkeypatch.setattr("ks_lottery.report.screen.time.perf_counter", lambda: next(clock))
    out = io.StringIO()
    with Screen(2, Console(file=out, width=100)).training("embed tuning") as watch:
        for step in range(1, 4):
            watch(Progress(step, 3, 3000 * step, None))
    assert out.getvalue() == "[ 1/2] embed tuning: 15.0 s, 1,500 tokens/s\n"


def test_nothing_is_said_when_silent():
    out = io.StringIO()
    screen = Screen(2, Console(file=out, width=100))
    with screen.stage("scan", silent=True) as tick:
        tick(1, 1)
    with screen.training("tune", silent=True) as watch:
        watch(Progress(1, 1, 10, 0.5))
    assert out.getvalue() == ""
    assert screen.number == 2
