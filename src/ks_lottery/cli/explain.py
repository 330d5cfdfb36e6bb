"""The command `explain`: what tickets are."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ks_lottery.cli.options import add_output, text_source

if TYPE_CHECKING:
    import argparse


def add(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    parser.add_argument("tickets", help="JSON file that select or a run wrote")
    parser.add_argument("--scan", metavar="FILE", help="the scan they are from (default: scan.parquet, beside them)")
    parser.add_argument("--corpus", metavar="TEXT", help="text of the target language to rank tokens by frequency in")
    parser.add_argument(
        "--attribution",
        metavar="DIR",
        help="folder of the embed tuning that recorded lca and gradient (default: embed, beside the scan, if there)",
    )
    parser.add_argument("--tensor", help="tensor that the tickets are rows of, where the scan has several")
    parser.add_argument("--model", help="model whose tokenizer reads the corpus (default: the scan's base)")
    parser.add_argument("--source-language", default="en", help="of a parallel corpus (default: en)")
    parser.add_argument("--target-language", default="ca", help="of a parallel corpus (default: ca)")
    add_output(parser, "tickets to show (default: 30)", 30)


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from ks_lottery.report.screen import Screen
    from ks_lottery.store.files import to_json
    from ks_lottery.tickets.saved import explain_saved

    explanation = explain_saved(
        arguments.tickets,
        arguments.scan,
        tensor=arguments.tensor,
        corpus=None if arguments.corpus is None else text_source(arguments, arguments.corpus),
        attribution=arguments.attribution,
        model=arguments.model,
    )
    sections = explanation.sections(arguments.top)
    if arguments.out:
        explanation.save(arguments.out)
    if arguments.json:
        sys.stdout.write(to_json(explanation.as_dict()))
        return 0
    screen = Screen()
    screen.show(sections)
    if arguments.out:
        screen.say(f"Every ticket lies in {arguments.out}.")
    return 0
