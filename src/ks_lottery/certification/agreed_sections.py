"""How a comparison with a reference shows itself: bounds by candidate, or the choice, and the sentence for a release note."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ks_lottery.certification.units import AVERAGE, SENTENCES, counted_words
from ks_lottery.report.forms import percent_down, rounded_down
from ks_lottery.report.section import Column, Section

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TITLES = {
    "agreement": "agreement",
    "all_agree": "all agree",
    "generated": "same output",
    "accuracy": "accuracy",
    "accuracy_change": "accuracy change",
}
"""What each guarantee bounds, as a column, in the order of the columns."""

READING = {
    "agreement": "agreement: mean share of the positions of a sentence at which the candidate's next token is the reference's",
    "all_agree": "all agree: share of sentences in which that holds at every position that counts",
    "generated": "same output: share of sentences for which the greedy outputs are equal",
    "accuracy": "accuracy: mean share of the positions of a sentence at which it is the text's own token",
    "accuracy_change": "accuracy change: that of the candidate less that of the reference, paired by sentence",
}


def agreed_sections(content: Mapping[str, Any]) -> list[Section]:
    """Return what `Agreed.as_dict` contains as sections."""
    shown = _choice(content) if content["choice"] is not None else _guarantees(content)
    notes = [] if content["choice"] is not None else [Section(title="For a release note", sentences=content["notes"])]
    return [*shown, *notes, *_verdict(content)]


def _guarantees(content: Mapping[str, Any]) -> list[Section]:
    guarantees = content["guarantees"]
    there = {one["bounded"] for one in guarantees}
    bounded = [name for name in TITLES if name in there]
    columns = [
        Column(title="candidate", widest=40, cut="begin"),
        *(Column(title=f"{TITLES[name]} (seen)", align="right") for name in bounded),
    ]
    rows: list[list[Any]] = []
    for model in content["candidates"]:
        own = {one["bounded"]: one for one in guarantees if one["model"] == model}
        rows.append([model, *(_figure(own[name]) for name in bounded)])
    example = guarantees[0]
    several = (
        f"Each of the {len(guarantees)} bounds alone fails with probability at most {example['delta']:g}; several together may "
        "fail more often."
    )
    first = "all positions" if example["positions"] is None else f"the first {example['positions']:,} positions"
    sentences = [
        *(f"{READING[name]}." for name in bounded),
        f"Counted: {first} of each sentence. Calibration: {example['pool']['how']}; only these were computed.",
        f"{example['statement']}",
        several,
    ]
    title = f"Guaranteed against {content['reference']} on {content['text']}"
    return [Section(title=title, columns=columns, rows=rows, sentences=sentences)]


def _figure(one: Mapping[str, Any]) -> str:
    signed = one["bounded"] == "accuracy_change"
    lower = rounded_down(one["lower"], 3)
    if signed:
        return f">= {lower if lower.startswith('-') else f'+{lower}'} ({one['observed']:+.3f})"
    return f">= {lower} ({one['observed']:.3f})"


def _choice(content: Mapping[str, Any]) -> list[Section]:
    choice = content["choice"]
    columns = [
        Column(title="candidate", widest=40, cut="begin"),
        Column(title="loss seen", form=".4f"),
        Column(title="p", form=".2e"),
        Column(title="result", align="right"),
    ]
    rows: list[list[Any]] = []
    for number, (model, observed, p) in enumerate(
        zip(content["candidates"], choice["observed"], choice["pvalues"], strict=True)
    ):
        shown = "chosen" if number == choice["chosen"] else "passed" if number < choice["passed"] else "failed"
        rows.append([model, observed, p or "below 1e-300", shown if number <= choice["passed"] else "not tested"])
    title = f"Candidates in the order of testing, against {content['reference']} on {content['text']}"
    sentences = [choice["statement"], f"Calibration: {choice['pool']['how']}; only these were computed."]
    return [Section(title=title, columns=columns, rows=rows, sentences=sentences)]


def _verdict(content: Mapping[str, Any]) -> list[Section]:
    asked = content["fail_below"]
    if asked is None:
        return []
    below = content["below"]
    said = (
        f"Failed: a value of 1 - loss ({content['loss']}) of at least {asked:g} is not guaranteed for {', '.join(below)}."
        if below
        else f"Passed: for each candidate 1 - loss ({content['loss']}) of at least {asked:g} is guaranteed, by its own bound."
    )
    return [Section(sentences=[said])]


def release_note(reference: str, candidate: str, guarantees: Sequence[Mapping[str, Any]]) -> str:
    """Return what is guaranteed of a candidate in one sentence for a release note."""
    own = {one["bounded"]: one for one in guarantees if one["model"] == candidate}
    agreement, change = own["agreement"], own["accuracy_change"]
    unit, pool = agreement["unit"], agreement["pool"]
    words = counted_words(agreement["positions"])
    same = ""
    if "generated" in own:
        same = f", its greedy output is the same for at least {percent_down(own['generated']['lower'])} of {SENTENCES[unit]}"
    points = percent_down(change["lower"]).strip("-%")
    moved = (
        f"at most {points} percentage points below"
        if change["lower"] < 0
        else f"at least {points} percentage points above"
    )
    return (
        f"On {pool['name']}, {candidate} predicts the same next token as {reference} in at least "
        f"{percent_down(agreement['lower'])} of {words['the']} {AVERAGE[unit]}, and at {words['every']} in at least "
        f"{percent_down(own['all_agree']['lower'])} of {SENTENCES[unit]}{same}, and its accuracy is {moved} that of "
        f"{reference} (each bound by itself has confidence {1.0 - agreement['delta']:.12g}, from {agreement['n']:,} of "
        f"{pool['units']:,} {unit}s drawn at random)."
    )
