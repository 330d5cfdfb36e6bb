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
    "accuracy": "accuracy, %",
}
"""What each metric is called."""


def evaluation_sections(content: Mapping[str, Any]) -> list[Section]:
    """Return an evaluation: what was left out, scores, next-token figures, language, comparison."""
    sections: list[Section] = []
    if content["overlong"]:
        sections.append(Section(sentences=[f"{content['overlong']:,} sentences left out as longer than max_tokens"]))
    if content["scores"] is not None:
        sections += scores_sections(content["scores"], content["first_line"])
    if content["ended"] is not None:
        sections.append(Section(sentences=[ended_sentence(content["ended"])]))
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
    first = "all" if content["first"] is None else f"the first {content['first']}"
    resampled = f"; {content['confidence']:.0%} intervals from {content['resamples']:,} resamples of sentences"
    sentences = [
        f"next-token {_accuracy_and_loss(content)}",
        f"under teacher forcing, {first} target positions of each sentence, {content['positions']:,} in all"
        f"{resampled if content['resamples'] else ''}",
    ]
    if (rest := content.get("without_end")) is not None:
        sentences.append(
            f"without the end-of-sentence positions, {rest['positions']:,} in all: {_accuracy_and_loss(rest)}"
        )
    return [Section(sentences=sentences)]


def _accuracy_and_loss(content: Mapping[str, Any]) -> str:
    shown = {
        name: "" if (bounds := content[f"{name}_interval"]) is None else f" ({interval(bounds, '.4f')})"
        for name in ("accuracy", "loss")
    }
    return (
        f"accuracy {content['accuracy']:.4f}{shown['accuracy']}, loss {content['loss']:.4f} nats a token{shown['loss']}"
    )


def ended_sentence(content: Mapping[str, Any]) -> str:
    """Say how many outputs ended by themselves.

    >>> ended_sentence({"share": 0.75, "interval": (0.2, 0.99), "confidence": 0.95, "count": 3, "outputs": 4})
    '75.0% of the outputs (3 of 4) ended by themselves (95% interval 20.0%-99.0%)'
    """
    shown = ""
    if content["interval"] is not None:
        low, high = content["interval"]
        shown = f" ({_percent(content)} interval {low:.1%}-{high:.1%})"
    counts = f"{content['count']:,} of {content['outputs']:,}"
    return f"{content['share']:.1%} of the outputs ({counts}) ended by themselves{shown}"


def scores_sections(content: Mapping[str, Any], first_line: Mapping[str, Any] | None = None) -> list[Section]:
    """Return `Scores.content`: one row a metric, then the signatures, which are longer than a row, and what is missing.

    Parameters
    ----------
    first_line
        The content of the scores of the first lines, which are shown beside.
    """
    scores, percent = content["metrics"], _percent(content)
    columns = [
        Column(title="metric"),
        Column(title="score", form=".2f"),
        Column(title=f"{percent} interval", form=".1f"),
    ]
    rows: list[list[Any]] = [
        [TITLES[name], metric["score"], metric["interval"] or None] for name, metric in scores.items()
    ]
    notes: list[str] = []
    if first_line is not None:
        columns += [Column(title="first line", form=".2f"), Column(title=f"{percent} interval", form=".1f")]
        for row, name in zip(rows, scores, strict=True):
            metric = first_line["metrics"].get(name) or {}
            row += [metric.get("score"), metric.get("interval")]
        notes += ["first line: the output up to its first line break"] if rows else []
    if units := _units(scores):
        columns.append(Column(title="length", form=".3f"))
        for row, metric in zip(rows, scores.values(), strict=True):
            row.append(metric.get("length_ratio"))
        counted = " and ".join(f"in {unit} ({title})" for unit, title in units)
        notes.append(f"length: all outputs divided by all references, {counted}")
    resampled = (
        [f"{content['sentences']:,} sentences; intervals from {content['resamples']:,} resamples of them"]
        if content["metrics"] and content["resamples"]
        else []
    )
    return [Section(columns=columns, rows=rows, sentences=[*resampled, *notes, *_signatures(content)])]


def _units(scores: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return each unit of a length, with the metrics that count in it."""
    units: dict[str, list[str]] = {}
    for name, metric in scores.items():
        if metric.get("length_unit"):
            units.setdefault(metric["length_unit"], []).append(TITLES[name])
    return [(unit, ", ".join(names)) for unit, names in units.items()]


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
        Column(title="this" if own else "score", form=".2f"),
        Column(title="other" if own else content["baseline"], form=".2f"),
        Column(title="this - other" if own else "difference", form="+.2f"),
        Column(title=f"{_percent(content)} interval", form="+.2f"),
        Column(title="p", form=".4f"),
    ]
    differences = [_new_minus_old(each) if own else each for each in content["differences"]]
    rows = [
        [
            TITLES[difference["metric"]],
            difference["baseline"] if own else difference["system"],
            difference["score"],
            difference["baseline_score"],
            difference["difference"],
            difference["interval"],
            difference["p_value"],
        ]
        for difference in differences
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


def _new_minus_old(difference: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a difference of this evaluation and another; an earlier version has saved the other minus this."""
    if difference.get("baseline"):
        return difference
    low, high = difference["interval"]
    return {
        **difference, "baseline": difference["system"], "score": difference["baseline_score"],
        "baseline_score": difference["score"], "difference": -difference["difference"], "interval": (-high, -low),
    }  # fmt: skip


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
    lines = [f"{TITLES[name]}: {signature}" for name, signature in signatures.items() if signature]
    return lines + [f"{TITLES[name]} is missing: {why}" for name, why in content["missing"].items()]


def _percent(content: Mapping[str, Any]) -> str:
    return f"{100 * content['confidence']:.4g}%"
