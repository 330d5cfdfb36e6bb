"""What a scoring prints is what was found, in full."""

from __future__ import annotations

import io
from dataclasses import asdict

from rich.console import Console

from ks_lottery.evaluation.comparison import Comparison, Difference
from ks_lottery.evaluation.language_check import LanguageCheck
from ks_lottery.evaluation.scores import MetricScore, Scores
from ks_lottery.report.scores_table import language_line, print_comparison, print_scores

SIGNATURE = "nrefs:1|bs:1000|seed:12345|case:mixed|eff:no|tok:flores101|smooth:exp|spm:0123456789ab|version:2.6.0"
SCORES = Scores(
    {
        "spbleu-flores101": MetricScore(31.2345, SIGNATURE, 31.2, (29.04, 33.46)),
        "chrf": MetricScore(55.0, "nrefs:1|nw:2|version:2.6.0", 55.0, (54.0, 56.0)),
    },
    {"spbleu-flores200": "there is no flores200sacrebleuspm in /x/models"},
    sentences=1012, resamples=1000, seed=12345, confidence=0.95,
)  # fmt: skip


def printed(show, content) -> list[str]:
    out = io.StringIO()
    show(Console(file=out, width=100, soft_wrap=True, highlight=False), content)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_scores_with_whole_signatures_and_what_is_missing():
    assert printed(print_scores, SCORES.content()) == [
        "metric               score  95% interval",
        "spBLEU (FLORES-101)  31.23     29.0-33.5",
        "chrF++               55.00     54.0-56.0",
        "1,012 sentences; intervals from 1,000 resamples of them",
        f"spBLEU (FLORES-101): {SIGNATURE}",
        "chrF++: nrefs:1|nw:2|version:2.6.0",
        "spBLEU (FLORES-200) is missing: there is no flores200sacrebleuspm in /x/models",
    ]


def test_scores_without_intervals_and_without_any():
    plain = Scores({"bleu": MetricScore(1.0, "nrefs:1")}, {}, 3, 0, 1, 0.9)
    assert printed(print_scores, plain.content()) == [
        "metric  score  90% interval",
        "BLEU     1.00             -",
        "BLEU: nrefs:1",
    ]
    nothing = Scores({}, {"spbleu-flores101": "not there"}, 3, 10, 1, 0.9)
    assert printed(print_scores, nothing.content()) == ["spBLEU (FLORES-101) is missing: not there"]


def test_a_comparison():
    pairs = (
        Difference("bleu", "partial", 20.0, 25.5, -5.5, (-7.0, -4.04), 0.000999, "nrefs:1|bs:1000"),
        Difference("bleu", "random", 26.0, 25.5, 0.5, (-1.0, 2.0), 0.25, "nrefs:1|bs:1000"),
    )
    content = Comparison("embed", pairs, {}, 1012, 1000, 12345, 0.95).content()
    assert printed(print_comparison, content) == [
        "metric  system   score  embed  difference    95% interval       p",
        "BLEU    partial  20.00  25.50       -5.50  -7.00 to -4.04  0.0010",
        "BLEU    random   26.00  25.50       +0.50  -1.00 to +2.00  0.2500",
        "paired bootstrap against embed: 1,000 resamples of 1,012 sentences",
        "BLEU: nrefs:1|bs:1000",
    ]


def test_the_language_of_the_outputs():
    check = LanguageCheck(
        "ca", "Catalan", 1000, 3, 1, 900, 900 / 996, (0.8837, 0.9212), 0.95, "es", "Spanish", 60, "py3langid", "0.4.0"
    )
    assert language_line(asdict(check)) == (
        "Catalan: 90.4% of 996 outputs (95% interval 88.4%-92.1%); most common other: Spanish, 60; "
        "3 empty and 1 without words, counted apart (py3langid 0.4.0)"
    )
    none = LanguageCheck("ca", "Catalan", 2, 2, 0, 0, None, (0.0, 1.0), 0.95, None, None, 0, "py3langid", "0.4.0")
    assert language_line(asdict(none)) == (
        "no output has words to tell its language by; 2 empty, counted apart (py3langid 0.4.0)"
    )
