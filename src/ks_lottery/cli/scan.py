"""The command `scan`: what fine-tuning changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ks_lottery.config.choices import CORRECTIONS

if TYPE_CHECKING:
    import argparse


def add(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    parser.add_argument("base", help="model before: folder, file, hub id or GGUF")
    parser.add_argument("tuned", help="model after, or a PEFT adapter or row patch over base")
    parser.add_argument(
        "--units",
        default="embedding",
        choices=("embedding", "output", "matrix-rows", "all"),
        help="rows of the embedding (default), of the output embedding, of every matrix; all: those, and vectors",
    )
    parser.add_argument("--tensors", metavar="GLOB", help="only tensors whose name matches, such as '*.mlp.*'")
    parser.add_argument("--out", metavar="FILE", help="write every unit to this Parquet file")
    parser.add_argument("--top", type=int, default=30, metavar="N", help="units to show (default: 30)")
    parser.add_argument("--alpha", type=float, default=0.05, help="threshold of p (default: 0.05)")
    parser.add_argument(
        "--correction", default="none", choices=CORRECTIONS, help="correct p for the number of units (default: none)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--ignore-tokenizer", action="store_true", help="compare by id although the tokenizers differ")
    parser.add_argument("--fail-above", type=float, metavar="D", help="exit with 1 when a unit's D is above this")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from ks_lottery.checkpoint.page_cache import read_ahead
    from ks_lottery.checkpoint.source import EMBEDDING_NAMES, HEAD_NAMES

    whole = arguments.units in {"matrix-rows", "all"}
    read_ahead(arguments.base, arguments.tuned, modules=() if whole else EMBEDDING_NAMES + HEAD_NAMES)
    from ks_lottery.cli._scan import run_scan

    return run_scan(arguments)
