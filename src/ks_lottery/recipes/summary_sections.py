"""How the summary of a run shows itself: tables of its methods, sentences, tickets, certificate, and what to try next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ks_lottery.certification.certificate_sections import certificate_sections
from ks_lottery.corpus.plain_text import PLAIN
from ks_lottery.recipes.findings import TITLES, findings
from ks_lottery.recipes.recommendation import next_commands, ship_sentences
from ks_lottery.report.forms import interval
from ks_lottery.report.section import Column, Section

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MOST_TICKETS = 15
"""Tickets that are shown."""


def summary_sections(summary: Mapping[str, Any], tickets: Sequence[Mapping[str, Any]], folder: str) -> list[Section]:
    """Return a run: methods, findings, tickets, certificate, where everything is and what to try next.

    Parameters
    ----------
    summary
        Content of ``summary.json``.
    tickets
        Rows of ``tickets.json``.
    folder
        Where the run is.
    """
    plain = summary["text"].get("format") == PLAIN
    unit = "texts" if plain else "pairs"
    translated = "" if plain else f"; chrF++ on {summary['translations']} of them, too few to rank by"
    measured = (
        f"measured on {summary['text']['test']} held-out {unit} ({summary['positions']:,} target positions){translated}"
    )
    return [
        methods_section(summary["methods"], summary["confidence"]),
        Section(sentences=[measured]),
        ends_section(summary["methods"]),
        forgetting_section(summary["methods"], summary["confidence"], summary.get("general", {})),
        Section(sentences=findings(summary)),
        tickets_section(tickets, folder),
        *certificate_sections(summary["certificate"]["transfer"], "Certificate of the partial transfer"),
        Section(sentences=_last(summary, folder, translates=not plain)),
    ]


def _last(summary: Mapping[str, Any], folder: str, *, translates: bool) -> list[str]:
    """Return what to ship, and what to try next."""
    ship: Mapping[str, Any] | None = summary.get("ship")  # a run of an earlier version has none
    bytes_of = {name: method["bytes"] for name, method in summary["methods"].items()}
    said = [] if ship is None else ship_sentences(ship, TITLES, bytes_of, folder)
    return [*said, *next_commands(ship, folder, "partial", translates=translates)]


def run_sections(summary: Mapping[str, Any], folder: str) -> list[Section]:
    """Return a run with the tickets that its summary names; see `summary_sections`."""
    return summary_sections(summary, summary["tickets"], folder)


def methods_section(methods: Mapping[str, Any], confidence: float) -> Section:
    """Return the comparison of all methods."""
    columns = [
        Column(title="method"),
        Column(title="trained", form="integer"),
        Column(title="ships", form="bytes"),
        Column(title="accuracy", form=".3f"),
        Column(title=f"{confidence:.0%} interval", form="interval"),
        Column(title="loss", form=".3f"),
        Column(title="chrF++", form=".1f"),
    ]
    rows = [
        [
            TITLES.get(name, name),
            method["trained_parameters"],
            method["bytes"] or None,
            method["accuracy"],
            method["interval"],
            method["loss"],
            method["chrf"],
        ]
        for name, method in methods.items()
    ]
    return Section(columns=columns, rows=rows)


def ends_section(methods: Mapping[str, Any]) -> Section:
    """Return what tells a better translation from a model that only learned to stop; empty for a run of an earlier version."""
    columns = [
        Column(title="method"),
        Column(title="accuracy", form=".3f"),
        Column(title="without ends", form=".3f"),
        Column(title="ended", form="percent"),
        Column(title="length", form=".2f"),
        Column(title="chrF++", form=".1f"),
        Column(title="first line", form=".1f"),
    ]
    rows = [
        [
            TITLES.get(name, name),
            method["accuracy"],
            (method["without_end"] or {}).get("accuracy"),
            (method["ended"] or {}).get("share"),
            method["length_ratio"]["chrf"],
            method["chrf"],
            method["first_line"]["chrf"],
        ]
        for name, method in methods.items()
        if "ended" in method
    ]
    sentences = [
        "without ends: accuracy without the end-of-sentence positions; ended: share of the translations that ended by "
        "themselves; length: characters of all translations divided by those of the references; first line: chrF++ of each "
        "translation up to its first line break"
    ]
    return Section(title="Ends of sentences", columns=columns, rows=rows, sentences=sentences) if rows else Section()


def forgetting_section(methods: Mapping[str, Any], confidence: float, general: Mapping[str, Any]) -> Section:
    """Return what each method changed on general text; empty for a run of an earlier version.

    A run on text without a source side, and without general text, says that it was not measured.

    Parameters
    ----------
    general
        ``text``, the general text that was given, or None for the source side of the test pairs, whose language is
        ``source_language``.
    """
    measured = {name: method["forgetting"] for name, method in methods.items() if method.get("forgetting") is not None}
    if not measured and any("forgetting" in method for method in methods.values()):
        return Section(
            sentences=[
                "Forgetting was not measured: the text has no source side. Give evaluate.general, a text of another language."
            ]
        )
    if not measured:
        return Section()
    columns = [
        Column(title="method"),
        Column(title="loss", form=".4f"),
        Column(title="difference", form="+.4f"),
        Column(title=f"{confidence:.0%} interval", form="+.4f"),
        Column(title="unchanged", form="percent"),
    ]
    first = next(iter(measured.values()))
    rows: list[list[Any]] = [[TITLES["original"], first["original_loss"], None, None, None]]
    rows += [[TITLES.get(name, name), *_forgotten(forgetting)] for name, forgetting in measured.items()]
    text = general["text"] or f"the source side of the test pairs ({general['source_language']})"
    sentences = [
        f"general text: {text}, {first['sentences']:,} sentences without a prompt, {first['positions']:,} predicted tokens",
        "difference: loss in nats a token less that of the original model, paired; above 0 is forgetting; unchanged: share of "
        "the sentences that hold no trained row and are answered bit by bit as before",
    ]
    return Section(title="Forgetting", columns=columns, rows=rows, sentences=sentences)


def _forgotten(forgetting: Mapping[str, Any]) -> list[Any]:
    """Return loss, difference, interval and the share that is bit-identical."""
    loss, share = forgetting["loss"], forgetting["identical"] / forgetting["sentences"]
    if forgetting["identical"] == forgetting["sentences"]:
        return [loss, "0", "exactly", share]
    bounds = forgetting["loss_interval"]
    if "loss_range" in forgetting:  # of several draws
        bounds = f"range {interval(forgetting['loss_range'], '+.4f')}"
    return [loss, forgetting["loss_difference"], bounds, share]


def tickets_section(tickets: Sequence[Mapping[str, Any]], folder: str) -> Section:
    """Return the first tickets with their token strings, D and p; empty when there are none."""
    columns = [
        Column(title="row", form="d"),
        Column(title="token", cut="end"),
        Column(title="D", form=".4f"),
        Column(title="p", form="pvalue"),
    ]
    rows = [
        [ticket["row"], ticket["token"], ticket["statistic"], ticket["log_pvalue"]] for ticket in tickets[:MOST_TICKETS]
    ]
    more = len(tickets) - len(rows)
    return Section(
        columns=columns, rows=rows, keys=2, sentences=[f"... and {more} more in {folder}/tickets.json"] if more else []
    )
