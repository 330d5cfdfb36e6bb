"""The command `explain`: tickets with their tokens, rival ranks and frequencies, as in table 3 of the paper.

Must never load a model: a text is read by the tokenizer alone, everything else is in saved files.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_lottery.corpus.monolingual import read_sentences, token_counts
from ks_lottery.errors import UserError
from ks_lottery.models.load import load_tokenizer, open_checkpoint
from ks_lottery.models.vocabulary import read_vocabulary, tokens_here
from ks_lottery.report.explain_report import print_explanation
from ks_lottery.report.screen import Screen
from ks_lottery.store.files import digest_json, manifest, to_json, write_json
from ks_lottery.tickets.explain import explain
from ks_lottery.tickets.origin import attribution_beside, recorded, saved_tokens, tokens_part
from ks_lottery.tickets.scan import Scan
from ks_lottery.tickets.tickets import Tickets

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from ks_lottery.checkpoint.attribution import Attribution


def run_explain(arguments: argparse.Namespace) -> int:
    """Do what the command line asks for, and return the exit code."""
    if arguments.top < 0:
        raise UserError(f"--top is {arguments.top}, but must be 0 or more")
    file = Path(arguments.tickets)
    tickets = Tickets.open(file)
    scan_file = file.parent / "scan.parquet" if arguments.scan is None else Path(arguments.scan)
    if arguments.scan is None and not scan_file.is_file():
        raise UserError(f"no scan.parquet lies beside {file}: give the scan that the tickets are from with --scan")
    scan = tokens_part(Scan.open(scan_file), arguments.tensor)
    tokens = _tokens(file, scan_file, scan)
    notes: list[str] = []
    attribution = _attribution(scan, scan_file, arguments.attribution, notes)
    explain(tickets, scan, attribution=attribution)  # what does not fit is refused before a long text is read
    counts, corpus = None, None
    if arguments.corpus is not None:
        counts, corpus = _frequencies(arguments, scan, tokens)
    found = explain(tickets, scan, frequencies=counts, attribution=attribution)
    content = {
        "vocabulary": found.vocabulary,
        "moved": found.moved,
        "width": found.width,
        "rule": dict(tickets.rule),
        "corpus": corpus,
        "agreement": {name: asdict(one) for name, one in found.agreement.items()},
        "rows": found.table(tokens),
        "notes": notes,
    }
    if arguments.out:
        made = {**scan.made_from, "tickets": digest_json(tickets.rows.tolist())}
        about = manifest("explanation", made_from=made, settings={"rule": dict(tickets.rule), "corpus": corpus})
        write_json(Path(arguments.out), {**about, **content})
    if arguments.json:
        sys.stdout.write(to_json(content))
        return 0
    screen = Screen(total=1)
    print_explanation(screen.console, content, arguments.top)
    if arguments.out:
        screen.say(f"Every ticket lies in {arguments.out}.")
    return 0


def _tokens(file: Path, scan_file: Path, scan: Scan) -> dict[int, str]:
    """Return token strings by row from wherever they are kept: the scan, the tickets, or a base that is still there."""
    found = saved_tokens(scan_file, scan.parts[0].tensor)
    if found is None and (listed := Tickets.tokens(file)):
        return listed
    if found is None:
        found = tokens_here(str(scan.made_from.get("base", {}).get("name", "")))
    return dict(enumerate(found or ()))


def _attribution(scan: Scan, scan_file: Path, given: str | None, notes: list[str]) -> Attribution | None:
    """Open what the tuning recorded: where the user says, or, if it is there and the scan's, where a run keeps it."""
    if given is not None:
        return recorded(scan, Path(given), str(scan_file))
    place = attribution_beside(scan_file)
    if place is None:
        return None
    try:
        return recorded(scan, place, str(scan_file))
    except UserError as error:
        notes.append(f"Without lca and gradient: {error}.")
        return None


def _frequencies(
    arguments: argparse.Namespace, scan: Scan, tokens: Mapping[int, str]
) -> tuple[Mapping[int, int], dict[str, Any]]:
    """Count the tokens of a text, by the tokenizer of the scan's base."""
    name = arguments.model or str(scan.made_from.get("base", {}).get("name", ""))
    try:
        checkpoint = open_checkpoint(name)
    except UserError as error:
        if arguments.model is not None:
            raise
        raise UserError(f"{error}; --model names a model whose tokenizer reads the corpus") from error
    vocabulary = read_vocabulary(checkpoint.folder)
    shown = () if vocabulary is None else vocabulary.shown
    other = next((row for row, text in tokens.items() if row < len(shown) and text not in ("", shown[row])), None)
    if other is not None:
        raise UserError(
            f"row {other} is {tokens[other]} in the scan and {shown[other]} in {name}, which is another tokenizer: "
            "give the scan's own with --model"
        )
    sentences = read_sentences(
        arguments.corpus, source_language=arguments.source_language, target_language=arguments.target_language
    )
    counts = token_counts(load_tokenizer(checkpoint), sentences)
    return counts, {"text": arguments.corpus, "sentences": len(sentences), "tokens": counts.total()}
