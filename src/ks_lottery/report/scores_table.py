"""What a scoring prints: scores with their intervals and signatures, systems compared, and the language of the outputs.

Must never compute a figure: it shows the `content()` of saved `Scores` and `Comparison`s, and the fields of a `LanguageCheck`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

TITLES = {
    "spbleu-flores101": "spBLEU (FLORES-101)",
    "spbleu-flores200": "spBLEU (FLORES-200)",
    "bleu": "BLEU",
    "chrf": "chrF++",
}
"""What each metric is called on the screen."""


def _percent(content: Mapping[str, Any]) -> str:
    return f"{100 * content['confidence']:.4g}%"


def scores_table(scores: Mapping[str, Any]) -> Table:
    """Return one line a metric: score and interval. The signatures are longer than a line: see `signature_lines`."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("metric", no_wrap=True)
    for name in ("score", f"{_percent(scores)} interval"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, metric in scores["metrics"].items():
        interval = metric["interval"]
        shown = f"{interval[0]:.1f}-{interval[1]:.1f}" if interval else "-"
        table.add_row(TITLES[name], f"{metric['score']:.2f}", shown)
    return table


def signature_lines(content: Mapping[str, Any]) -> list[str]:
    """Return one line a metric, to be copied whole beside a figure, then one for each metric that is missing."""
    if "metrics" in content:
        signatures = {name: metric["signature"] for name, metric in content["metrics"].items()}
    else:
        signatures = {one["metric"]: one["signature"] for one in content["differences"]}
    lines = [f"{TITLES[name]}: {signature}" for name, signature in signatures.items()]
    return lines + [f"{TITLES[name]} is missing: {why}" for name, why in content["missing"].items()]


def comparison_table(comparison: Mapping[str, Any]) -> Table:
    """Return one line a metric and system: both scores, their difference with its interval, and p."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("metric", no_wrap=True)
    table.add_column("system")
    for name in ("score", comparison["baseline"], "difference", f"{_percent(comparison)} interval", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in comparison["differences"]:
        low, high = one["interval"]
        table.add_row(
            TITLES[one["metric"]],
            one["system"],
            f"{one['score']:.2f}",
            f"{one['baseline_score']:.2f}",
            f"{one['difference']:+.2f}",
            f"{low:+.2f} to {high:+.2f}",
            f"{one['p_value']:.4f}",
        )
    return table


def language_line(check: Mapping[str, Any]) -> str:
    """Say in one sentence what a language check found."""
    apart = [
        f"{check[name]:,} {word}" for name, word in (("empty", "empty"), ("undecided", "without words")) if check[name]
    ]
    judged = check["outputs"] - check["empty"] - check["undecided"]
    tool = f"{check['package']} {check['version']}"
    aside = f"; {' and '.join(apart)}, counted apart" if apart else ""
    if check["share"] is None:
        return f"no output has words to tell its language by{aside} ({tool})"
    low, high = check["interval"]
    other = f"; most common other: {check['other_name']}, {check['other_count']:,}" if check["other"] else ""
    return (
        f"{check['name']}: {check['share']:.1%} of {judged:,} outputs "
        f"({_percent(check)} interval {low:.1%}-{high:.1%}){other}{aside} ({tool})"
    )


def print_scores(console: Console, scores: Mapping[str, Any]) -> None:
    """Print scores, their signatures, what is missing and why."""
    if scores["metrics"]:
        console.print(scores_table(scores))
    if scores["metrics"] and scores["resamples"]:
        console.print(
            f"{scores['sentences']:,} sentences; intervals from {scores['resamples']:,} resamples of them", markup=False
        )
    for line in signature_lines(scores):
        console.print(line, markup=False)


def print_comparison(console: Console, comparison: Mapping[str, Any]) -> None:
    """Print how each system differs from the first, the signatures, what is missing and why."""
    if comparison["differences"]:
        console.print(comparison_table(comparison))
        console.print(
            f"paired bootstrap against {comparison['baseline']}: {comparison['resamples']:,} resamples of "
            f"{comparison['sentences']:,} sentences",
            markup=False,
        )
    for line in signature_lines(comparison):
        console.print(line, markup=False)
