"""What a run shows: that its sentences follow from its figures."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from ks_lottery.recipes.summary import findings, methods_section, tickets_section
from ks_lottery.report.terminal import print_sections


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


def drawn(section) -> str:
    console = Console(width=120, file=io.StringIO())
    print_sections(console, [section])
    return console.file.getvalue()


def test_the_table_has_every_method():
    text = drawn(methods_section(summary()["methods"], 0.95))
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


def test_the_first_tickets_are_shown_and_the_others_counted():
    tickets = [{"row": n, "token": "'[/INST]'", "statistic": 0.5, "log_pvalue": -1000.0} for n in range(17)]
    lines = drawn(tickets_section(tickets, "runs/x")).splitlines()
    assert lines[1].split() == ["0", "'[/INST]'", "0.5000", "5.08e-435"]
    assert len(lines) == 1 + 15 + 1
    assert lines[-1] == "... and 2 more in runs/x/tickets.json"
    assert drawn(tickets_section([], "runs/x")) == ""
