"""How the short job shows itself: its systems, translations side by side, and what to try next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ks_lottery.corpus.languages import language_name
from ks_lottery.recipes.method_names import ORIGINAL
from ks_lottery.recipes.recommendation import next_commands, ship_sentences
from ks_lottery.report.section import Column, Section

if TYPE_CHECKING:
    from collections.abc import Mapping

TITLES = {
    ORIGINAL: "original model",
    "partial": "partial tuning",
    "token-prompt": "token prompt",
}
"""What the table calls each system."""

LONGEST_SHOWN = 100
"""Characters of each output that are shown."""


def few_rows_sections(summary: Mapping[str, Any], folder: str) -> list[Section]:
    """Return the short job: systems, translations side by side, and what to try next.

    Parameters
    ----------
    summary
        Content of ``summary.json``.
    folder
        Where the run is.
    """
    methods, text = summary["methods"], summary["text"]
    columns = [
        Column(title="method"),
        Column(title="trained", form="integer"),
        Column(title="ships", form="bytes"),
        Column(title="ended", align="right"),
        Column(title="chrF++, first line", form=".1f"),
        Column(title="chrF++", form=".1f"),
        Column(title="accuracy", form=".3f"),
        Column(title=f"{summary['confidence']:.0%} interval", form="interval"),
        Column(title="forgets", form="+.3f"),
    ]
    rows = [
        [
            TITLES[name],
            figures["trained_parameters"],
            figures["bytes"] or None,
            f"{figures['ended']['count']} of {figures['ended']['outputs']}",
            figures["first_line"],
            figures["chrf"],
            figures["accuracy"],
            figures["interval"],
            None if figures.get("forgetting") is None else figures["forgetting"]["loss_difference"],
        ]
        for name, figures in methods.items()
    ]
    languages = [language_name(text[f"{side}_language"]) for side in ("source", "target")]
    count = methods[ORIGINAL]["ended"]["outputs"]
    measured = [
        f"{languages[0]} to {languages[1]}, trained on {text['train']} pairs of one seed, measured on {text['test']} held-out "
        f"pairs ({summary['positions']:,} target positions).",
        f"ended: outputs that ended by themselves; chrF++ of {count} translations, too few to rank by.",
        *_forgetting(methods),
    ]
    return [
        Section(columns=columns, rows=rows, sentences=measured),
        *(_side_by_side(example, number) for number, example in enumerate(summary["examples"], start=1)),
        Section(sentences=_last(summary, folder)),
    ]


def _last(summary: Mapping[str, Any], folder: str) -> list[str]:
    """Return what to ship, and what to try next."""
    ship: Mapping[str, Any] | None = summary.get("ship")  # a run of an earlier version has none
    bytes_of = {name: figures["bytes"] for name, figures in summary["methods"].items()}
    said = [] if ship is None else ship_sentences(ship, TITLES, bytes_of, folder)
    return [*said, *next_commands(ship, folder, "partial", others=("token-prompt",))]


def _forgetting(methods: Mapping[str, Any]) -> list[str]:
    """Say what `forgets` is, and how much of the general text no trained row touches."""
    measured = {name: figures["forgetting"] for name, figures in methods.items() if figures.get("forgetting")}
    sentences = ["forgets: loss on the source sentences alone, without a prompt, after less before, nats a token."]
    for name, forgetting in measured.items():
        low, high = forgetting["loss_interval"] or (None, None)
        bounds = "" if low is None else f" ({low:+.3f} to {high:+.3f})"
        sentences.append(
            f"{TITLES[name]}: {forgetting['loss_difference']:+.3f}{bounds}; {forgetting['untouched']} of "
            f"{forgetting['sentences']} sentences contain no trained token, and {forgetting['identical']} are answered "
            "bit-identically."
        )
    return sentences


def _side_by_side(example: Mapping[str, Any], number: int) -> Section:
    """Return one sentence with the answer of each system."""
    lines = {"source": example["source"], "reference": example["reference"]}
    lines |= {TITLES[name]: output for name, output in example["outputs"].items()}
    width = max(map(len, lines)) + 2
    sentences = [f"  {f'{name}:':<{width}}{_cut(line)}" for name, line in lines.items()]
    return Section(title=f"Held-out sentence {number}", sentences=sentences)


def _cut(line: str) -> str:
    return line if len(line) <= LONGEST_SHOWN else f"{line[:LONGEST_SHOWN]}..."
