"""Progress on the screen: what a stage and a training say when they end."""

from __future__ import annotations

import io
import re
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


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_bar_says_the_share_and_names_its_times(width):
    """All of it fits into the line, and the time that is left is not that which is gone."""
    clock = iter(range(1000))
    out = io.StringIO()
    console = Console(
        file=out,
        width=width,
        force_terminal=True,
        color_system=None,
        soft_wrap=True,
        get_time=lambda: float(next(clock)),
    )
    with Screen(12, console).stage("next-token predictions", unit="sentences") as tick:
        for done in range(1, 5):
            tick(done, 20)
    lines = [line.strip() for line in re.split(r"[\r\n]|\x1b\[[0-9;?]*[A-Za-z]", out.getvalue()) if "%" in line]
    assert lines
    assert all(len(line) <= width and "…" not in line for line in lines)
    assert re.search(r"20% .*\b[\d.]+ (s|min|h) left", lines[-1])
    assert ("elapsed, " in lines[-1]) == (width > 60)


def test_a_stage_has_no_number_while_their_number_is_not_known():
    out = io.StringIO()
    screen = Screen(0, Console(file=out, width=100))
    with screen.stage("open model and text"):
        screen.total = 2
    with screen.stage("embed tuning"):
        pass
    first, second = out.getvalue().splitlines()
    assert first.startswith("open model and text: ")
    assert second.startswith("[ 1/2] embed tuning: ")


def test_nothing_is_said_when_silent():
    out = io.StringIO()
    screen = Screen(2, Console(file=out, width=100))
    with screen.stage("scan", silent=True) as tick:
        tick(1, 1)
    with screen.training("tune", silent=True) as watch:
        watch(Progress(1, 1, 10, 0.5))
    assert out.getvalue() == ""
    assert screen.number == 2


@pytest.mark.parametrize("name", ["\x1b[31mX", "a\rb", "\x07", "\u202ex", "\x9b2J"])
def test_the_title_of_a_stage_never_acts_on_the_terminal(name):
    """Neither in the bar nor in the line that follows it."""
    out = io.StringIO()
    console = Console(file=out, width=100, force_terminal=True, color_system=None)
    screen = Screen(2, console)
    with screen.stage(name) as tick:
        tick(1, 2)
    with screen.training(name) as watch:
        watch(Progress(1, 1, 10, 0.5))
    screen.skipped(name)
    assert name not in out.getvalue()
    assert out.getvalue().count("".join(c if c.isprintable() else repr(c)[1:-1] for c in name)) >= 5


def test_a_reader_that_went_away_is_left_to_the_command_line(monkeypatch):
    """Rich itself would end the program with exit code 1, which a check that failed has."""

    class Gone(io.StringIO):
        def write(self, text):
            raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("sys.stdout", Gone())
    with pytest.raises(BrokenPipeError):
        Screen().say("x")
