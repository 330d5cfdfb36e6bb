"""The flags of the commands `alike`, `explain` and `overlap`.

Must never import anything heavy: this is what their `--help` waits for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def add_alike(one: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add every flag of `alike`, and return the parser."""
    one.add_argument("embed", help="folder of the embed-tuned patch")
    one.add_argument("partial", help="folder of the partially tuned patch of the same base")
    one.add_argument("--tickets", metavar="FILE", help="compare these rows (default: all that both patches change)")
    one.add_argument(
        "--alpha", type=float, nargs="+", default=[0.05], metavar="A", help="levels of the test (default: 0.05)"
    )
    one.add_argument("--side", choices=("input", "output"), help="embedding, where both patches change both")
    _add_output(one, "rows to show, those that differ most (default: 10)", 10)
    return one


def add_explain(one: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add every flag of `explain`, and return the parser."""
    one.add_argument("tickets", help="JSON file that select or a run wrote")
    one.add_argument("--scan", metavar="FILE", help="the scan they are from (default: scan.parquet, beside them)")
    one.add_argument("--corpus", metavar="TEXT", help="text of the target language to rank tokens by frequency in")
    one.add_argument(
        "--attribution",
        metavar="DIR",
        help="folder of the embed tuning that recorded lca and gradient (default: embed, beside the scan, if there)",
    )
    one.add_argument("--tensor", help="tensor that the tickets are rows of, where the scan has several")
    one.add_argument("--model", help="model whose tokenizer reads the corpus (default: the scan's base)")
    one.add_argument("--source-language", default="en", help="of a parallel corpus (default: en)")
    one.add_argument("--target-language", default="ca", help="of a parallel corpus (default: ca)")
    _add_output(one, "tickets to show (default: 30)", 30)
    return one


def add_overlap(one: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add every flag of `overlap`, and return the parser."""
    one.add_argument(
        "tickets",
        nargs="+",
        help="JSON files that select or a run wrote, each FILE or NAME=FILE, such as ca=runs/ca/...",
    )
    one.add_argument("--top", type=int, default=30, metavar="N", help="rows to show side by side (default: 30)")
    one.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    one.add_argument("--force", action="store_true", help="compare by row although the bases differ")
    return one


def _add_output(one: argparse.ArgumentParser, shown: str, most: int) -> None:
    one.add_argument("--top", type=int, default=most, metavar="N", help=shown)
    one.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    one.add_argument("--out", metavar="FILE", help="write everything to this JSON file")
