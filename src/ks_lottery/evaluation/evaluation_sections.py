"""How an evaluation shows itself: scores with signatures, next-token accuracy and loss, language, comparisons."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ks_lottery.report.forms import interval
from ks_lottery.report.section import Column, Section

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TITLES = {
    "spbleu-flores101": "spBLEU (FLORES-101)",
    "spbleu-flores200": "spBLEU (FLORES-200)",
    "bleu": "BLEU",
    "chrf": "chrF++",
}
"""What each metric is called."""


def evaluation_sections(content: Mapping[str, Any]) -> list[Section]:
    """Return an evaluation: what was left out, scores, next-token figures, language, comparison."""
    sections: list[Section] = []
    if content["overlong"]:
        sections.append(Section(sentences=[f"{content['overlong']:,} sentences left out as longer than max_tokens"]))
    if content["scores"] is not None:
        sections += scores_sections(content["scores"])
    if content["next_token"] is not None:
        sections += next_token_sections(content["next_token"])
    if content["language"] is not None:
        sentences = [
            f"outputs in {language_sentence(content['language'])}",
            f"references in {language_sentence(content['references_language'])}",
        ]
        sections.append(Section(sentences=sentences))
    if content["comparison"] is not None:
        known = [] if content["scores"] is None else _signatures(content["scores"])  # which name what is missing too
        sections += comparison_sections(content["comparison"], own=True, known=known)
    return sections


def next_token_sections(content: Mapping[str, Any]) -> list[Section]:
    """Return accuracy and loss with their intervals, and what they count."""
    shown = {
        name: "" if (bounds := content[f"{name}_interval"]) is None else f" ({interval(bounds, '.4f')})"
        for name in ("accuracy", "loss")
    }
    first = "all" if content["first"] is None else f"the first {content['first']}"
    resampled = f"; {content['confidence']:.0%} intervals from {content['resamples']:,} resamples of sentences"
    sentences = [
        f"next-token accuracy {content['accuracy']:.4f}{shown['accuracy']}, loss {content['loss']:.4f} nats a token"
        f"{shown['loss']}",
        f"under teacher forcing, {first} target positions of each sentence, {content['positions']:,} in all"
        f"{resampled if content['resamples'] else ''}",
    ]
    return [Section(sentences=sentences)]


def scores_sections(content: Mapping[str, Any]) -> list[Section]:
    """Return `Scores.content`: one row a metric, then the signatures, which are longer than a row, and what is missing."""
    columns = [
        Column(title="metric"),
        Column(title="score", form=".2f"),
        Column(title=f"{_percent(content)} interval", form=".1f"),
    ]
    rows = [[TITLES[name], metric["score"], metric["interval"] or None] for name, metric in content["metrics"].items()]
    resampled = (
        [f"{content['sentences']:,} sentences; intervals from {content['resamples']:,} resamples of them"]
        if content["metrics"] and content["resamples"]
        else []
    )
    return [Section(columns=columns, rows=rows, sentences=[*resampled, *_signatures(content)])]


def comparison_sections(content: Mapping[str, Any], *, own: bool = False, known: Sequence[str] = ()) -> list[Section]:
    """Return `Comparison.content`: one row a metric and system, with both scores, their difference, its interval, and p.

    Parameters
    ----------
    own
        Whether the first system is the evaluation that is shown, which is then called "this".
    known
        Lines on metrics that are shown already, and not again.
    """
    columns = [
        Column(title="metric"),
        Column(title="other evaluation" if own else "system", cut="begin"),
        Column(title="other" if own else "score", form=".2f"),
        Column(title="this" if own else content["baseline"], form=".2f"),
        Column(title="other - this" if own else "difference", form="+.2f"),
        Column(title=f"{_percent(content)} interval", form="+.2f"),
        Column(title="p", form=".4f"),
    ]
    rows = [
        [
            TITLES[difference["metric"]],
            difference["system"],
            difference["score"],
            difference["baseline_score"],
            difference["difference"],
            difference["interval"],
            difference["p_value"],
        ]
        for difference in content["differences"]
    ]
    resampled = (
        [
            f"paired bootstrap against {content['baseline']}: {content['resamples']:,} resamples of "
            f"{content['sentences']:,} sentences"
        ]
        if rows
        else []
    )
    signatures = [line for line in _signatures(content) if line not in known]
    return [Section(columns=columns, rows=rows, sentences=[*resampled, *signatures], keys=2)]


def language_sentence(content: Mapping[str, Any]) -> str:
    """Say in one sentence what a language check found; `content` has the fields of a `LanguageCheck`."""
    apart = [
        f"{content[name]:,} {word}"
        for name, word in (("empty", "empty"), ("undecided", "without words"))
        if content[name]
    ]
    judged = content["outputs"] - content["empty"] - content["undecided"]
    tool = f"{content['package']} {content['version']}"
    aside = f"; {' and '.join(apart)}, counted apart" if apart else ""
    if content["share"] is None:
        return f"no output has words to tell its language by{aside} ({tool})"
    low, high = content["interval"]
    other = f"; most common other: {content['other_name']}, {content['other_count']:,}" if content["other"] else ""
    return (
        f"{content['name']}: {content['share']:.1%} of {judged:,} outputs "
        f"({_percent(content)} interval {low:.1%}-{high:.1%}){other}{aside} ({tool})"
    )


def _signatures(content: Mapping[str, Any]) -> list[str]:
    """Return one line a metric, to be copied whole beside a figure, then one for each metric that is missing."""
    if "metrics" in content:
        signatures = {name: metric["signature"] for name, metric in content["metrics"].items()}
    else:
        signatures = {difference["metric"]: difference["signature"] for difference in content["differences"]}
    lines = [f"{TITLES[name]}: {signature}" for name, signature in signatures.items()]
    return lines + [f"{TITLES[name]} is missing: {why}" for name, why in content["missing"].items()]


def _percent(content: Mapping[str, Any]) -> str:
    return f"{100 * content['confidence']:.4g}%"
