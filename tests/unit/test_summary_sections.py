"""The tables of a run: every method is in them, and they fit a terminal of 80 columns undivided."""

from __future__ import annotations

import io

from rich.console import Console

from ks_lottery.recipes.findings import TITLES
from ks_lottery.recipes.summary_sections import ends_section, forgetting_section, methods_section, tickets_section
from ks_lottery.report.markdown import to_markdown
from ks_lottery.report.terminal import print_sections


def drawn(section, width=120, *, terminal=False) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=terminal, color_system=None)
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


def forgetting(difference, low, high, **more):
    return {
        "loss": 5.2345, "original_loss": 5.0, "loss_difference": difference, "loss_interval": (low, high), "sentences": 40,
        "positions": 512, "identical": 4, **more,
    }  # fmt: skip


def measured():
    """Return figures of every method that a run can have, as wide as they get."""
    method = {
        "accuracy": 0.3, "interval": [0.28, 0.32], "loss": 13.0, "chrf": 29.8, "bleu": 1.0, "bytes": 450_300_000,
        "trained_parameters": 1_212_480, "without_end": {"accuracy": 0.291}, "ended": {"share": 0.875},
        "length_ratio": {"chrf": 10.43}, "first_line": {"chrf": 30.1}, "forgetting": forgetting(0.2345, -0.1111, 0.3456),
    }  # fmt: skip
    methods = {name: dict(method) for name in TITLES}
    methods["original"]["forgetting"] = None
    nothing = {"length_ratio": {"chrf": None}, "first_line": {"chrf": None}, "chrf": None, "ended": None}
    drawn_range = forgetting(0.2345, None, None, loss_interval=None, loss_range=(-0.1234, 0.2468))
    methods["random"] |= {**nothing, "forgetting": drawn_range}
    methods["partial"]["forgetting"] = forgetting(0.0, 0.0, 0.0, identical=40)
    return methods


def test_the_tables_fit_80_columns_undivided():
    methods = measured()
    general = {"text": None, "source_language": "en"}
    for section in (methods_section(methods, 0.95), ends_section(methods), forgetting_section(methods, 0.95, general)):
        lines = drawn(section, 80, terminal=True).splitlines()
        assert max(map(len, lines)) <= 80
        for title in TITLES.values():
            assert sum(line.startswith(title) for line in lines) == 1, (title, lines)


def test_the_table_of_ends_shows_whole_score_and_first_line_side_by_side():
    text = drawn(ends_section(measured()))
    assert "embed tuning             0.300         0.291  87.5%   10.43    29.8        30.1" in text
    assert "random rows, 3 draws     0.300         0.291      -       -       -           -" in text
    assert "| embed tuning | 0.300 | 0.291 | 87.5% | 10.43 | 29.8 | 30.1 |" in to_markdown([ends_section(measured())])


def test_the_table_of_forgetting_says_what_is_unchanged_and_what_the_text_is():
    text = drawn(forgetting_section(measured(), 0.95, {"text": None, "source_language": "en"}))
    rows = {line[:22].strip(): line[22:].split() for line in text.splitlines()}
    assert rows["original model"] == ["5.0000", "-", "-", "-"]
    assert rows["embed tuning"] == ["5.2345", "+0.2345", "-0.1111", "to", "+0.3456", "10.0%"]
    assert rows["partial tuning"] == ["5.2345", "0", "exactly", "100.0%"]
    assert rows["random rows, 3 draws"] == ["5.2345", "+0.2345", "range", "-0.1234", "to", "+0.2468", "10.0%"]
    assert "general text: the source side of the test pairs (en), 40 sentences without a prompt" in text
    named = drawn(forgetting_section(measured(), 0.95, {"text": "news.txt", "source_language": None}))
    assert "general text: news.txt, 40 sentences" in named


def test_a_run_of_an_earlier_version_has_only_the_first_table():
    old = {"original": {"accuracy": 0.3, "interval": [0.28, 0.32], "loss": 3.0, "chrf": 20.0}}
    assert drawn(ends_section(old)) == drawn(forgetting_section(old, 0.95, {})) == ""
