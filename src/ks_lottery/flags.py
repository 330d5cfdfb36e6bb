"""The flags of the commands `inspect`, `scan` and `select`.

Must never import anything heavy: this is what `--help` waits for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

RANKINGS = (
    "ks", "cos", "absolute", "relative", "ratio", "kl", "frequency", "occurrence", "random", "random-reachable",
    "lca", "gradient",
)  # fmt: skip
"""What select can rank rows by."""

CORRECTIONS = ("none", "bonferroni", "holm", "bh")
"""Corrections of p-values; the paper's setting is none."""


def add_inspect(one: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add every flag of `inspect`, and return the parser."""
    one.add_argument("text", help="file or Hugging Face dataset of parallel text, as for run --text.train")
    one.add_argument("--target", metavar="FILE", help="the other of two line-aligned files")
    one.add_argument(
        "--model", default="asset:smollm2-135m-instruct", metavar="M", help="whose tokenizer (default: the demo's)"
    )
    one.add_argument("--source-language", default="en", help="language to translate from (default: en)")
    one.add_argument("--target-language", default="ca", help="language to translate to (default: ca)")
    one.add_argument("--format", default="auto", help="format of the text (default: by its ending)")
    one.add_argument("--source-column", help="column or key of the source sentence, where it cannot be told")
    one.add_argument("--target-column", help="column or key of the target sentence, where it cannot be told")
    one.add_argument("--dataset-config", help="configuration of a Hugging Face dataset")
    one.add_argument("--dataset-split", default="train", help="split of a Hugging Face dataset (default: train)")
    one.add_argument("--dataset-streaming", action="store_true", help="read a dataset without storing it first")
    one.add_argument("--limit", type=int, metavar="N", help="read the first N pairs only")
    one.add_argument("--template", default="alpaca", help="alpaca (default), plain, chat, or text with {source}")
    one.add_argument("--instruction", help="instruction of every prompt, in place of the text's or our own")
    one.add_argument("--max-tokens", type=int, default=512, metavar="N", help="longest example (default: 512)")
    one.add_argument("--examples", type=int, default=3, metavar="N", help="examples to show (default: 3)")
    one.add_argument("--keep-all", action="store_true", help="do not clean the text first, as run does")
    one.add_argument("--json", action="store_true", help="print one JSON object")
    return one


def add_scan(one: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add every flag of `scan`, and return the parser."""
    one.add_argument("base", help="model before: folder, file, hub id or GGUF")
    one.add_argument("tuned", help="model after, or a PEFT adapter or row patch over base")
    one.add_argument(
        "--units",
        default="embedding",
        choices=("embedding", "output", "matrix-rows", "all"),
        help="rows of the embedding (default), of the output embedding, of every matrix; all: those, and vectors",
    )
    one.add_argument("--tensors", metavar="GLOB", help="only tensors whose name matches, such as '*.mlp.*'")
    one.add_argument("--out", metavar="FILE", help="write every unit to this Parquet file")
    one.add_argument("--top", type=int, default=30, metavar="N", help="units to show (default: 30)")
    one.add_argument("--alpha", type=float, default=0.05, help="threshold of p (default: 0.05)")
    one.add_argument(
        "--correction", default="none", choices=CORRECTIONS, help="correct p for the number of units (default: none)"
    )
    one.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    one.add_argument("--ignore-tokenizer", action="store_true", help="compare by id although the tokenizers differ")
    one.add_argument("--fail-above", type=float, metavar="D", help="exit with 1 when a unit's D is above this")
    one.add_argument("--quiet", action="store_true", help="print nothing but errors")
    return one


def add_select(one: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add every flag of `select`, and return the parser."""
    one.add_argument("scan", help="Parquet file that scan wrote")
    one.add_argument("--out", required=True, metavar="FILE", help="write the tickets to this JSON file")
    how = one.add_mutually_exclusive_group(required=True)
    how.add_argument("--alpha", type=float, help="all rows with p below this; 1 selects every row")
    how.add_argument("--interval", type=float, nargs=2, metavar=("LO", "HI"), help="all rows with LO <= p < HI")
    how.add_argument("--top-k", type=int, metavar="K", help="the K rows that come first by --by")
    one.add_argument("--by", default="ks", choices=RANKINGS, help="what rows are ranked by (default: ks)")
    one.add_argument("--correction", default="none", choices=CORRECTIONS, help="correct p for the number of rows")
    one.add_argument("--tensor", help="tensor to select from, where the scan has several")
    one.add_argument(
        "--corpus",
        "--data",
        metavar="TEXT",
        help="text that frequency, occurrence and random-reachable look at; gradient: measure it there on the original model",
    )
    one.add_argument(
        "--attribution",
        metavar="DIR",
        help="folder of the embed tuning that recorded lca and gradient (default: embed, beside the scan)",
    )
    one.add_argument("--model", help="model whose tokenizer reads the corpus (default: the scan's base)")
    one.add_argument("--source-language", default="en", help="of the corpus, for occurrence and gradient (default: en)")
    one.add_argument("--target-language", default="ca", help="of the corpus, for occurrence and gradient (default: ca)")
    one.add_argument("--template", default="alpaca", help="prompt around the corpus (default: alpaca)")
    one.add_argument("--seed", type=int, default=0, help="seed of a random draw (default: 0)")
    return one
