"""The command `inspect`: a text as the model will see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def add(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    parser.add_argument("text", help="file or Hugging Face dataset of parallel text, as for run --text.train")
    parser.add_argument("--target", metavar="FILE", help="the other of two line-aligned files")
    parser.add_argument(
        "--model", default="asset:smollm2-135m-instruct", metavar="M", help="whose tokenizer (default: the demo's)"
    )
    parser.add_argument("--source-language", default="en", help="language to translate from (default: en)")
    parser.add_argument("--target-language", default="ca", help="language to translate to (default: ca)")
    parser.add_argument("--format", default="auto", help="format of the text (default: by its ending)")
    parser.add_argument("--source-column", help="column or key of the source sentence, where it cannot be told")
    parser.add_argument("--target-column", help="column or key of the target sentence, where it cannot be told")
    parser.add_argument("--dataset-config", help="configuration of a Hugging Face dataset")
    parser.add_argument("--dataset-split", default="train", help="split of a Hugging Face dataset (default: train)")
    parser.add_argument("--dataset-streaming", action="store_true", help="read a dataset without storing it first")
    parser.add_argument("--limit", type=int, metavar="N", help="read the first N pairs only")
    parser.add_argument("--template", default="alpaca", help="alpaca (default), plain, chat, or text with {source}")
    parser.add_argument("--instruction", help="instruction of every prompt, in place of the text's or our own")
    parser.add_argument("--max-tokens", type=int, default=512, metavar="N", help="longest example (default: 512)")
    parser.add_argument("--examples", type=int, default=3, metavar="N", help="examples to show (default: 3)")
    parser.add_argument("--keep-all", action="store_true", help="do not clean the text first, as run does")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from ks_lottery.cli._inspect import run_inspect

    return run_inspect(arguments)
