"""What a run shows: that its sentences follow from its figures."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from ks_lottery.recipes.summary import findings, methods_section, tickets_section
from ks_lottery.report.terminal import print_sections


def summary(passing=10, needed=None, **gaps) -> dict:
    """Return a summary; `gaps` are a rival's accuracy less that of the tickets, each with an interval of 0.04."""
    power = {"alpha": 0.05, "rows_moved": 1000, "rows_passing": passing, "critical_statistic": 0.08,
             "largest_statistic": 0.05 if not passing else 0.2, "largest_spread": 0.01,
             "measured_shortfall": needed is not None, "needed": needed}  # fmt: skip
    gaps = {"random": -0.1, "occurrence": -0.05, "gradient-sum": -0.05, "lca": -0.05, "gradient": -0.05, **gaps}
    systems = {name: {"difference": gap, "interval": [gap - 0.02, gap + 0.02]} for name, gap in gaps.items()}
    return {"comparisons": {"systems": systems}, "scan": power, "confidence": 0.95}


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ({}, "The tickets are better than as many random rows (mean of 3 draws): +0.100 (+0.080 to +0.120)."),
        (
            {"random": -0.01},
            "No difference shown between the tickets and as many random rows (mean of 3 draws): +0.010 (-0.010 to +0.030).",
        ),
        (
            {"random": 0.1},
            "As many random rows (mean of 3 draws) are better than the tickets: +0.100 (+0.080 to +0.120).",
        ),
        (
            {"gradient-sum": 0.1},
            "The rows that one pass at the original model chose (gradient-sum) are better than the tickets: +0.100",
        ),
        ({"occurrence": 0.019}, "No difference shown between the tickets and the rows that occur most: -0.019 ("),
        ({"occurrence": 0.021}, "The rows that occur most are better than the tickets: +0.021 (+0.001 to +0.041)."),
        (
            {"lca": 0.1},
            "The rows that lowered the loss most while embed tuning (lca) are better than the tickets: +0.100",
        ),
        (
            {"gradient": 0.1},
            "The rows of largest summed gradient while embed tuning are better than the tickets: +0.100",
        ),
        ({}, "the paired difference in accuracy, with its 95% interval over sentences. One seed of training"),
        ({"passing": 0}, "No ticket: the largest D is 0.0500, and p < 0.05 needs 0.0800"),
        (
            {"passing": 0, "needed": 5.3},
            "too small for the test. If they were 5.3 times as large, one unit would pass. This factor was measured",
        ),
    ],
)
def test_findings(figures, said):
    assert said in " ".join(findings(summary(**figures)))


def test_findings_say_better_only_where_the_interval_excludes_0():
    """Whether the two marginal intervals overlap, by which it was said before, decides nothing."""
    for gap in (-0.02, 0.0, 0.02):
        text = " ".join(findings(summary(random=gap, occurrence=gap, lca=gap, gradient=gap, **{"gradient-sum": gap})))
        assert "better" not in text
        assert text.count("No difference shown") == 5


def test_findings_give_no_advice_that_was_not_measured():
    text = " ".join(findings(summary(passing=0)))
    assert "times as large" not in text
    assert "learning rate" not in text


def test_findings_of_a_run_without_paired_differences_compare_nothing():
    known = summary()
    del known["comparisons"]
    assert len(findings(known)) == 1


def drawn(section) -> str:
    console = Console(width=120, file=io.StringIO())
    print_sections(console, [section])
    return console.file.getvalue()


def test_the_table_has_every_method():
    row = {"accuracy": 0.3, "interval": [0.28, 0.32], "loss": 3.0, "chrf": 20.0, "bytes": 1500}
    methods = {name: {**row, "trained_parameters": 1234567} for name in ("original", "embed", "lca", "gradient")}
    text = drawn(methods_section(methods, 0.95))
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
