"""The command `select`: tickets from a saved scan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ks_lottery.cli.options import text_source
from ks_lottery.config.choices import CORRECTIONS, RANKINGS

if TYPE_CHECKING:
    import argparse


def add(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    parser.add_argument("scan", help="Parquet file that scan wrote")
    parser.add_argument("--out", required=True, metavar="FILE", help="write the tickets to this JSON file")
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--alpha", type=float, help="all rows with p below this; 1 selects every row")
    how.add_argument("--interval", type=float, nargs=2, metavar=("LO", "HI"), help="all rows with LO <= p < HI")
    how.add_argument("--top-k", type=int, metavar="K", help="the K rows that come first by --by")
    parser.add_argument("--by", default="ks", choices=RANKINGS, help="what rows are ranked by (default: ks)")
    parser.add_argument("--correction", default="none", choices=CORRECTIONS, help="correct p for the number of rows")
    parser.add_argument("--tensor", help="tensor to select from, where the scan has several")
    parser.add_argument(
        "--corpus",
        "--data",
        metavar="TEXT",
        help="text that frequency, occurrence and random-reachable look at; gradient: measure it there on the original model",
    )
    parser.add_argument(
        "--attribution",
        metavar="DIR",
        help="folder of the embed tuning that recorded lca and gradient (default: embed, beside the scan)",
    )
    parser.add_argument("--model", help="model whose tokenizer reads the corpus (default: the scan's base)")
    parser.add_argument(
        "--source-language", default="en", help="of the corpus, for occurrence and gradient (default: en)"
    )
    parser.add_argument(
        "--target-language", default="ca", help="of the corpus, for occurrence and gradient (default: ca)"
    )
    parser.add_argument("--template", default="alpaca", help="prompt around the corpus (default: alpaca)")
    parser.add_argument("--seed", type=int, default=0, help="seed of a random draw (default: 0)")


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from ks_lottery.report.screen import Screen
    from ks_lottery.tickets.basis import basis_of, open_scan, tokens_of_base
    from ks_lottery.tickets.selectors import select_rows

    scan = open_scan(arguments.scan, arguments.tensor)
    basis = basis_of(
        arguments.by,
        scan,
        arguments.scan,
        size=arguments.top_k,
        alpha=arguments.alpha,
        interval=None if arguments.interval is None else tuple(arguments.interval),
        correction=arguments.correction,
        seed=arguments.seed,
        corpus=None if arguments.corpus is None else text_source(arguments, arguments.corpus),
        template=arguments.template,
        attribution=arguments.attribution,
        model=arguments.model,
        stage=Screen().stage,
    )
    tickets = select_rows(arguments.by, basis)
    tickets.save(arguments.out, tokens_of_base(scan, arguments.model))
    Screen().say(f"{len(tickets):,} of {len(scan):,} rows written to {arguments.out}")
    return 0
