"""What a run says: that its sentences follow from its figures."""

from __future__ import annotations

import pytest

from ks_lottery.recipes.findings import findings, forgot, gained


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


def change(difference, low, high):
    return {"difference": difference, "interval": (low, high)}


@pytest.mark.parametrize(
    ("every", "said"),
    [
        (
            change(0.1, 0.05, 0.15),
            "Embed tuning raises the original model's accuracy: +0.100 (+0.050 to +0.150), and without ",
        ),
        (
            change(-0.1, -0.15, -0.05),
            "Embed tuning lowers the original model's accuracy: -0.100 (-0.150 to -0.050), and ",
        ),
        (
            change(0.1, 0.0, 0.2),
            "No difference in accuracy shown between embed tuning and the original model: +0.100 (",
        ),
        (
            change(-0.1, -0.2, 0.0),
            "No difference in accuracy shown between embed tuning and the original model: -0.100 (",
        ),
    ],
)
def test_a_gain_is_said_only_where_the_interval_excludes_0(every, said):
    text = gained("embed tuning", every, change(0.02, -0.01, 0.05))
    assert text.startswith(said)
    assert text.endswith("without the end-of-sentence positions +0.020 (-0.010 to +0.050).")
    assert "without" not in gained("embed tuning", every, None)


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.01, 0.03, "Partial tuning raises the loss on general text, in nats a token: +0.0200 (+0.0100 to +0.0300)."),
        (-0.01, 0.05, "No change in the loss on general text shown for partial tuning, in nats a token: +0.0200 ("),
        (0.0, 0.05, "No change in the loss on general text shown for partial tuning"),
        (-0.05, -0.01, "Partial tuning lowers the loss on general text"),
    ],
)
def test_forgetting_is_said_only_where_the_interval_excludes_0(low, high, said):
    measured = {"loss_difference": 0.02, "loss_interval": (low, high), "identical": 3, "sentences": 4}
    assert forgot("partial tuning", measured).startswith(said)
    same = {**measured, "identical": 4}
    assert (
        forgot("partial tuning", same)
        == "Partial tuning answers the general text as the original model does, bit by bit."
    )


def test_findings_say_where_the_tickets_act_or_why_it_is_not_known():
    where = {"method": "partial", "sentences": 20, "sentence": "This follows.", "missing": None}
    text = " ".join(findings({**summary(), "where": where}))
    assert "Where the tickets act (partial tuning, the first 20 test sentences): This follows." in text
    text = " ".join(findings({**summary(), "where": {**where, "sentence": None, "missing": "there is no ticket"}}))
    assert "Where the tickets act was not measured: there is no ticket." in text
    assert "Where" not in " ".join(findings(summary()))
