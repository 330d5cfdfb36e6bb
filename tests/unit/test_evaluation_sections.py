"""What a scoring prints is what was found, in full."""

from __future__ import annotations

import io
from dataclasses import asdict, replace

from rich.console import Console

from ks_lottery.evaluation.comparison import Comparison, Difference
from ks_lottery.evaluation.evaluation_sections import (
    comparison_sections,
    ended_sentence,
    language_sentence,
    scores_sections,
)
from ks_lottery.evaluation.language_check import LanguageCheck
from ks_lottery.evaluation.scores import MetricScore, Scores
from ks_lottery.report.terminal import print_sections

SIGNATURE = "nrefs:1|bs:1000|seed:12345|case:mixed|eff:no|tok:flores101|smooth:exp|spm:0123456789ab|version:2.6.0"
SCORES = Scores(
    metrics={
        "spbleu-flores101": MetricScore(score=31.2345, signature=SIGNATURE, mean=31.2, interval=(29.04, 33.46)),
        "chrf": MetricScore(score=55.0, signature="nrefs:1|nw:2|version:2.6.0", mean=55.0, interval=(54.0, 56.0)),
    },
    missing={"spbleu-flores200": "there is no flores200sacrebleuspm in /x/models"},
    sentences=1012, resamples=1000, seed=12345, confidence=0.95,
)  # fmt: skip


def printed(sections, content) -> list[str]:
    out = io.StringIO()
    print_sections(Console(file=out, width=100, soft_wrap=True, highlight=False), sections(content))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_scores_with_whole_signatures_and_what_is_missing():
    assert printed(scores_sections, SCORES.content()) == [
        "metric               score  95% interval",
        "spBLEU (FLORES-101)  31.23     29.0-33.5",
        "chrF++               55.00     54.0-56.0",
        "1,012 sentences; intervals from 1,000 resamples of them",
        f"spBLEU (FLORES-101): {SIGNATURE}",
        "chrF++: nrefs:1|nw:2|version:2.6.0",
        "spBLEU (FLORES-200) is missing: there is no flores200sacrebleuspm in /x/models",
    ]


def test_scores_without_intervals_and_without_any():
    few = {"sentences": 3, "seed": 1, "confidence": 0.9}
    plain = Scores(metrics={"bleu": MetricScore(score=1.0, signature="nrefs:1")}, missing={}, resamples=0, **few)
    assert printed(scores_sections, plain.content()) == [
        "metric  score  90% interval",
        "BLEU     1.00             -",
        "BLEU: nrefs:1",
    ]
    nothing = Scores(metrics={}, missing={"spbleu-flores101": "not there"}, resamples=10, **few)
    assert printed(scores_sections, nothing.content()) == ["spBLEU (FLORES-101) is missing: not there"]


def test_first_lines_and_lengths_beside_each_score():
    few = {"missing": {}, "sentences": 3, "resamples": 10, "seed": 1, "confidence": 0.9}
    whole = Scores(
        metrics={
            "bleu": MetricScore(score=6.2, signature="b", interval=(5.0, 7.0), length_ratio=8.1234, length_unit="tokens"),
            "chrf": MetricScore(score=20.0, signature="c", length_ratio=7.5, length_unit="characters"),
        }, **few,
    )  # fmt: skip
    first = Scores(metrics={"bleu": MetricScore(score=35.71, signature="b", interval=(33.0, 37.0))}, **few)
    assert printed(lambda content: scores_sections(content, first.content()), whole.content()) == [
        "metric  score  90% interval  first line  90% interval  length",
        "BLEU     6.20       5.0-7.0       35.71     33.0-37.0   8.123",
        "chrF++  20.00             -           -             -   7.500",
        "3 sentences; intervals from 10 resamples of them",
        "first line: the output up to its first line break",
        "length: all outputs divided by all references, in tokens (BLEU) and in characters (chrF++)",
        "BLEU: b",
        "chrF++: c",
    ]


def test_what_ended():
    share = {"share": 0.75, "interval": (0.2, 0.99), "confidence": 0.95, "count": 3, "outputs": 4}
    assert ended_sentence(share) == ("75.0% of the outputs (3 of 4) ended by themselves (95% interval 20.0%-99.0%)")
    assert ended_sentence({**share, "interval": None}) == "75.0% of the outputs (3 of 4) ended by themselves"


def test_a_comparison():
    pairs = (
        Difference(
            metric="bleu", system="partial", score=20.0, baseline_score=25.5, difference=-5.5, interval=(-7.0, -4.04),
            p_value=0.000999, signature="nrefs:1|bs:1000",
        ),
        Difference(
            metric="bleu", system="random", score=26.0, baseline_score=25.5, difference=0.5, interval=(-1.0, 2.0),
            p_value=0.25, signature="nrefs:1|bs:1000",
        ),
    )  # fmt: skip
    content = Comparison(
        baseline="embed", differences=pairs, missing={}, sentences=1012, resamples=1000, seed=12345, confidence=0.95
    ).content()
    assert printed(comparison_sections, content) == [
        "metric  system   score  embed  difference    95% interval       p",
        "BLEU    partial  20.00  25.50       -5.50  -7.00 to -4.04  0.0010",
        "BLEU    random   26.00  25.50       +0.50  -1.00 to +2.00  0.2500",
        "paired bootstrap against embed: 1,000 resamples of 1,012 sentences",
        "BLEU: nrefs:1|bs:1000",
    ]
    (section,) = comparison_sections(content, own=True, known=["BLEU: nrefs:1|bs:1000"])
    assert [column.title for column in section.columns[:5]] == [
        "metric",
        "other evaluation",
        "this",
        "other",
        "this - other",
    ]
    # What an earlier version saved as other minus this is shown as this minus other, like what is saved now.
    assert section.rows[0][1:6] == ["partial", 25.5, 20.0, 5.5, (4.04, 7.0)]
    now = [
        replace(
            pairs[0],
            system="this",
            baseline="partial",
            score=25.5,
            baseline_score=20.0,
            difference=5.5,
            interval=(4.04, 7.0),
        )
    ]
    new = replace(Comparison.of(content), baseline="partial", differences=tuple(now)).content()
    assert comparison_sections(new, own=True)[0].rows[0] == section.rows[0]
    assert len(section.sentences) == 1  # the scores above have said the signature


def test_the_language_of_the_outputs():
    check = LanguageCheck(
        language="ca", name="Catalan", outputs=1000, empty=3, undecided=1, right=900, share=900 / 996,
        interval=(0.8837, 0.9212), confidence=0.95, other="es", other_name="Spanish", other_count=60,
        package="py3langid", version="0.4.0",
    )  # fmt: skip
    assert language_sentence(asdict(check)) == (
        "Catalan: 90.4% of 996 outputs (95% interval 88.4%-92.1%); most common other: Spanish, 60; "
        "3 empty and 1 without words, counted apart (py3langid 0.4.0)"
    )
    none = LanguageCheck(
        language="ca", name="Catalan", outputs=2, empty=2, undecided=0, right=0, share=None, interval=(0.0, 1.0),
        confidence=0.95, other=None, other_name=None, other_count=0, package="py3langid", version="0.4.0",
    )  # fmt: skip
    assert language_sentence(asdict(none)) == (
        "no output has words to tell its language by; 2 empty, counted apart (py3langid 0.4.0)"
    )


def test_a_signature_is_copied_as_it_is():
    """`:b:` and `:x:` are codes of emoji, which a console replaces in markup."""
    scores = Scores(
        metrics={"bleu": MetricScore(score=1.0, signature="a:b:c:x:[bold]")}, missing={}, sentences=3, resamples=0,
        seed=1, confidence=0.9,
    )  # fmt: skip
    assert printed(scores_sections, scores.content())[-1] == "BLEU: a:b:c:x:[bold]"
