"""What a run prints: that its sentences follow from its figures."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from ks_lottery.report.scan_report import top_table
from ks_lottery.report.screen import Screen
from ks_lottery.report.table import findings, methods_table, size, tickets_table


def summary(partial=0.3, random=0.2, occurrence=0.25, lca=0.25, gradient=0.25, passing=10) -> dict:
    accuracies = {
        "original": 0.1, "embed": 0.5, "partial": partial, "random": random,
        "occurrence": occurrence, "lca": lca, "gradient": gradient,
    }  # fmt: skip
    row = {"loss": 3.0, "chrf": 20.0, "bytes": 1500, "trained_parameters": 1234567}
    methods = {n: {**row, "accuracy": a, "interval": [a - 0.02, a + 0.02]} for n, a in accuracies.items()}
    power = {"alpha": 0.05, "rows_moved": 1000, "rows_passing": passing, "critical_statistic": 0.08,
             "largest_statistic": 0.05 if not passing else 0.2, "largest_spread": 0.01}  # fmt: skip
    return {"methods": methods, "scan": power}


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ({}, "better than as many random rows: 0.300 against 0.200"),
        ({"random": 0.3}, "Random rows do as well as the tickets here: 0.300 against 0.300"),
        ({"occurrence": 0.33}, "occur most do better than the tickets: 0.330 against 0.300 (their intervals overlap)"),
        ({"occurrence": 0.4}, "occur most do better than the tickets: 0.400 against 0.300."),
        (
            {"lca": 0.4},
            "lowered the loss most while embed tuning (lca) do better than the tickets: 0.400 against 0.300.",
        ),
        (
            {"gradient": 0.33},
            "largest summed gradient while embed tuning do better than the tickets: 0.330 against 0.300 (",
        ),
        ({"passing": 0}, "No ticket: the largest D is 0.0500, and p < 0.05 needs 0.0800"),
        ({"passing": 0}, "had no power at this learning rate"),
    ],
)
def test_findings(figures, said):
    assert said in " ".join(findings(summary(**figures)))


def test_findings_do_not_boast():
    text = " ".join(findings(summary(occurrence=0.29, lca=0.3)))
    assert "occur most" not in text
    assert "(lca)" not in text
    assert "gradient" not in text


def test_table_has_every_method():
    console = Console(width=120, file=io.StringIO())
    console.print(methods_table(summary()["methods"], 0.95))
    text = console.file.getvalue()
    for word in (
        "original model",
        "embed tuning",
        "loss-change rows",
        "gradient rows",
        "1,234,567",
        "0.280-0.320",
        "2 kB",
    ):
        assert word in text


def test_tokens_that_look_like_markup_are_shown_as_they_are():
    values = dict.fromkeys(("distance", "largest", "spread", "cos", "kl"), 1.0)
    rows = [
        {"tensor": "w", "row": 3, "token": token, "count": 5, "statistic": 0.5, "pvalue": 0.1, "log_pvalue": -2.3,
         "moved": 1, **values}
        for token in ("'[/INST]'", "'[bold]'")
    ]  # fmt: skip
    for table in (top_table(rows), tickets_table(rows)):
        console = Console(width=120, file=io.StringIO())
        console.print(table)
        assert "'[/INST]'" in console.file.getvalue()
        assert "'[bold]'" in console.file.getvalue()


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (220_448, "220 kB"), (4_867_576, "4.9 MB")]
)
def test_sizes(count, text):
    assert size(count) == text


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
