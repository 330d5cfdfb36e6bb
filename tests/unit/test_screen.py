"""Progress on the screen: what a stage and a training say when they end."""

from __future__ import annotations

import io
import re
import time
from dataclasses import dataclass

import pytest
from rich.cells import cell_len
from rich.console import Console

from ks_lottery.report.heartbeat import Heartbeat
from ks_lottery.report.screen import Screen
from ks_lottery.report.worker_table import WorkerTable


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


@pytest.mark.parametrize(
    "title", ["scan", "scan before against after, select tickets, transfer", "x" * 150, "日本語" * 30]
)
@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_the_time_that_is_left_is_shown_whatever_the_title(title, width):
    clock = iter(range(1000))
    out = io.StringIO()
    console = Console(
        file=out, width=width, force_terminal=True, color_system=None, get_time=lambda: 5000.0 * next(clock)
    )
    for show in (Screen(12, console).stage, Screen(12, console).training):
        out.truncate(0)
        with show(title) as tick:
            for done in range(1, 5):
                tick(done, 20) if show.__name__ == "stage" else tick(Progress(done, 20, 1000 * done, 1.234))
        lines = [
            re.sub(r"\s+$", "", line)
            for line in re.split(r"[\r\n]|\x1b\[[0-9;?]*[A-Za-z]", out.getvalue())
            if "%" in line
        ]
        assert lines
        assert all(cell_len(line) <= width and "…" not in line for line in lines)
        assert re.search(r"20% .*\b[\d.]+ (s|min|h) left", lines[-1]), lines[-1]


def lines_of(show, *, terminal: bool = False, silent: bool = False) -> list[str]:
    """Return what is said while something runs for 10 times as long as the time between two lines."""
    out = io.StringIO()
    screen = Screen(
        2, Console(file=out, width=60, force_terminal=terminal, color_system=None, soft_wrap=True), every=0.02
    )
    show(screen, silent)
    return [line for line in re.split(r"[\r\n]", out.getvalue()) if "so far" in line or "after" in line]


def opens(screen, silent):
    with screen.stage("open model and text", silent=silent):
        time.sleep(0.2)


def translates(screen, silent):
    with screen.stage("translate", unit="sentences", silent=silent) as tick:
        for done in range(1, 11):
            tick(done, 20)
            time.sleep(0.02)


def trains(screen, silent):
    with screen.training("embed tuning", silent=silent) as watch:
        for step in range(1, 11):
            watch(Progress(step, 20, 100 * step, 7 / step))
            time.sleep(0.02)


@pytest.mark.parametrize(
    ("show", "said"),
    [
        (opens, r"\[ 1/2\] open model and text: 0 s so far"),
        (translates, r"\[ 1/2\] translate: \d+% after 0 s, about \d+ s left, [\d,.]+ sentences/s"),
        (trains, r"\[ 1/2\] embed tuning: \d+% after 0 s, about \d+ s left, [\d,]+ tokens/s, loss \d\.\d{3}"),
    ],
)
def test_in_a_pipe_a_line_now_and_then_says_that_a_stage_runs(show, said):
    lines = lines_of(show)
    assert len(lines) >= 3
    assert re.fullmatch(said, lines[-1]), lines
    assert lines_of(show, terminal=True) == []
    assert lines_of(show, silent=True) == []


def test_the_time_left_of_a_line_is_that_of_the_pace(monkeypatch):
    """What was done before the first call is no work of this one."""
    clock = iter([0.0, 100.0, 160.0])
    monkeypatch.setattr("ks_lottery.report.heartbeat.time.monotonic", lambda: next(clock))
    heartbeat = Heartbeat("tuning", print)
    heartbeat.update(40, 100)
    heartbeat.done = 70  # 30 in 60 s, and 30 are to do
    assert heartbeat.line() == "tuning: 70% after 3 min, about 60 s left"


def test_workers_are_named_where_there_is_no_terminal():
    out = io.StringIO()
    table = WorkerTable(Screen(0, Console(file=out, width=60, soft_wrap=True), every=0.02), 5)
    with table.shown():
        table.works(1, "embed tuning")
        table.works(2, "scan")
        time.sleep(0.1)
    assert "0 of 5 stages; worker 1: embed tuning; worker 2: scan" in out.getvalue().splitlines()[-1]


@pytest.mark.parametrize("words", [["x"], ["--json", "x"]])
def test_commands_without_stages_say_on_standard_error_that_they_work(words, monkeypatch, capfd):
    """Standard output has the result alone."""
    from ks_lottery.cli import explain
    from ks_lottery.cli.main import main

    monkeypatch.setattr(Heartbeat.__init__, "__defaults__", (0.02,))
    monkeypatch.setattr(explain, "run", lambda settings: time.sleep(0.1) or 0)
    assert main(["explain", *words]) == 0
    out, err = capfd.readouterr()
    assert out == ""
    assert "ks-lottery: explain: 0 s so far" in err
