"""How `Where` shows itself: spans, translations, controls, and what follows from them in one sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ks_lottery.config.choices import SPANS
from ks_lottery.evaluation.evaluation_sections import TITLES
from ks_lottery.report.forms import interval
from ks_lottery.report.section import Column, Section

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TEMPLATE_ROWS, OTHER_ROWS = "template rows alone", "as many rows in no template"
"""Names of the two controls that the conclusion speaks of."""

DIRECTION = "random direction, draw "
"""What the names of the draws of a random direction begin with."""


def where_sections(content: Mapping[str, Any]) -> list[Section]:
    """Return the sections of `Where.as_dict`."""
    spans, controls = content["spans"], content["controls"]
    sections = [
        Section(title="rows active in", columns=effect_columns(content, "spans"), rows=[effect_row(e) for e in spans])
    ]
    if content["translated"]:
        sections.append(_translations(content))
    if controls:
        sections.append(
            Section(title="controls", columns=effect_columns(content, "control"), rows=control_rows(controls), keys=1)
        )
    return [*sections, Section(sentences=[*_sentences(content), *content["notes"], conclusion(content)])]


def effect_columns(content: Mapping[str, Any], what: str) -> list[Column]:
    """Return the columns of a table of effects; `what` is the title of the first."""
    level = f"{content['settings'].get('confidence', 0.95):.0%} interval"
    return [
        Column(title=what),
        Column(title="rows", form="integer"),
        Column(title="original", form=".4f"),
        Column(title="accuracy", form=".4f"),
        Column(title="difference", form="+.4f"),
        Column(title=level, form="+.4f"),
        Column(title="share", form=".2f"),
        Column(title=level, form="+.2f"),
        Column(title="loss", form=".4f"),
    ]


def effect_row(effect: Mapping[str, Any]) -> list[Any]:
    """Return the values of `effect_columns` for one effect."""
    names = (
        "name",
        "rows",
        "original",
        "accuracy",
        "difference",
        "difference_interval",
        "share",
        "share_interval",
        "loss",
    )
    return [effect[name] for name in names]


def control_rows(controls: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """Return one row a control; the draws of a random direction as one, with the mean, and the range as its interval."""
    draws = [effect for effect in controls if effect["name"].startswith(DIRECTION)]
    rows: list[list[Any]] = []
    for effect in controls:
        if effect in draws[1:]:
            continue
        rows.append(effect_row(effect) if effect not in draws else _mean_row(draws))
    return rows


def _mean_row(draws: Sequence[Mapping[str, Any]]) -> list[Any]:
    def mean(name: str) -> float | None:
        values = [draw[name] for draw in draws]
        return None if None in values else sum(values) / len(values)

    def spread(name: str) -> str | None:
        values = [draw[name] for draw in draws]
        return None if None in values else f"range {interval((min(values), max(values)), '+.4f')}"

    return [
        f"random direction, mean of {len(draws)}", draws[0]["rows"], draws[0]["original"], mean("accuracy"),
        mean("difference"), spread("difference"), mean("share"), None, mean("loss"),
    ]  # fmt: skip


def _translations(content: Mapping[str, Any]) -> Section:
    scored = [name for name in TITLES if name in (content["spans"][0]["scores"] or {})]
    columns = [
        Column(title="translations"),
        Column(title="ended", form=".3f"),
        *(Column(title=TITLES[name], form=".2f") for name in scored),
    ]
    rows = [[e["name"], e["ended"], *(e["scores"][name] for name in scored)] for e in content["spans"]]
    sentences = [
        f"{content['translated']:,} sentences, greedy search; ended: share of outputs that ended by themselves",
        *(f"{TITLES[name]}: {text}" for name, text in content["signatures"].items()),
    ]
    return Section(columns=columns, rows=rows, sentences=sentences)


def _sentences(content: Mapping[str, Any]) -> list[str]:
    """Say what the columns are, what was left out, and what it cost."""
    tokens, settings = content["tokens"], content["settings"]
    more = f"; the controls took {tokens['controls']:,}" if content["controls"] else ""
    lines = [
        f"next-token accuracy on {content['sentences']:,} sentences; difference to the original, paired, with intervals from "
        f"{settings.get('resamples', 0):,} resamples of sentences; share: of the difference of the whole patch, in every span",
        "These figures describe one patch on one text: none of the comparisons was fixed beforehand.",
        f"computed tokens: {tokens['spans']:,}, {tokens['spans'] / tokens['pass']:.2f} times those of one pass that shares its "
        f"prefix ({tokens['pass']:,}){more}",
    ]
    if content["overlong"]:
        lines.append(f"{content['overlong']:,} sentences left out as longer than max_tokens")
    return lines


def conclusion(content: Mapping[str, Any]) -> str:
    """Say in one sentence what follows from the figures of `Where.as_dict`, and nothing that was not measured."""
    effects = {effect["name"]: effect for effect in (*content["spans"], *content["controls"])}
    whole = effects["everywhere"]
    low, high = whole["difference_interval"]
    measured = f"{whole['difference']:+.4f} ({low:+.4f} to {high:+.4f})"
    if low <= 0 <= high:
        return (
            f"The patch changes next-token accuracy here by {measured}; this interval contains 0, so that nothing follows "
            "about where its rows act."
        )
    alone = [f"{_share(effects[name])} in the {name} alone" for name in SPANS]
    large = [f"the {name}" for name in SPANS if effects[name]["share_interval"][0] > 0.5]
    what = "gain" if whole["difference"] > 0 else "loss"
    follows = {
        0: f"no span alone is shown to carry more than half of the {what}",
        1: f"more than half of the {what} is there with the rows in {''.join(large)} alone",
    }.get(len(large), f"with the rows in {' or in '.join(large)} alone more than half of the {what} is there")
    controls = [
        f"{_share(effects[name])} with {effects[name]['rows']:,} {text}"
        for name, text in ((TEMPLATE_ROWS, "template rows alone"), (OTHER_ROWS, "rows that are in no template"))
        if name in effects and effects[name]["share"] is not None
    ]
    return f"Of the {what} in accuracy of {measured}, this share remains: {', '.join([*alone, *controls])}; {follows}."


def _share(effect: Mapping[str, Any]) -> str:
    low, high = effect["share_interval"]
    return f"{effect['share']:.2f} ({low:.2f} to {high:.2f})"
