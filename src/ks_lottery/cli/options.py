"""Flags that several commands share; light, since `--help` waits for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse


def add_text(group: Any, *, split: str) -> None:
    """Add the flags that `read_corpus` and prompts take, to a parser or a group of one.

    Parameters
    ----------
    split
        Default split of a Hugging Face dataset.
    """
    group.add_argument("--target", metavar="FILE", help="the other of two line-aligned files")
    group.add_argument("--format", default="auto", help="format of the text (default: by its ending)")
    group.add_argument("--source-language", default="en", metavar="LANG", help="translate from (default: en)")
    group.add_argument("--target-language", default="ca", metavar="LANG", help="translate to (default: ca)")
    group.add_argument("--source-column", metavar="NAME", help="column of the source sentence")
    group.add_argument("--target-column", metavar="NAME", help="column of the target sentence")
    group.add_argument("--dataset-config", metavar="NAME", help="configuration of a dataset")
    group.add_argument("--dataset-split", default=split, metavar="NAME", help=f"split of a dataset (default: {split})")
    group.add_argument("--dataset-streaming", action="store_true", help="read a dataset without storing it first")
    group.add_argument("--limit", type=int, metavar="N", help="read the first N pairs only")
    group.add_argument("--template", default="alpaca", help="prompt: alpaca (default), plain, chat, or your own")
    group.add_argument("--instruction", help="of every prompt, in place of the text's or our own")


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the text that is measured on."""
    group = parser.add_argument_group("text")
    group.add_argument("--data", required=True, metavar="TEXT", help="file, or name of a Hugging Face dataset")
    add_text(group, split="test")
    group.add_argument(
        "--max-tokens",
        type=int,
        metavar="N",
        help="leave out longer examples (default: refuse what the model cannot see)",
    )


def add_model(parser: argparse.ArgumentParser, seed: int = 0) -> None:
    """Add the flags of how a model runs, with the default of the seed."""
    group = parser.add_argument_group("how it runs")
    group.add_argument("--batch-size", type=int, default=16, metavar="N", help="sentences at a time (default: 16)")
    group.add_argument("--no-share-prefix", dest="share_prefix", action="store_false", help="compute each prompt whole")
    group.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16"), help="of the model")
    group.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"), help="where it runs")
    group.add_argument("--seed", type=int, default=seed, help=f"of every random choice (default: {seed})")
    group.add_argument("--trust-remote-code", action="store_true", help="run Python code of the checkpoint")


def add_output(parser: argparse.ArgumentParser, shown: str, most: int) -> None:
    """Add the flags of what is shown and written."""
    parser.add_argument("--top", type=int, default=most, metavar="N", help=shown)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.add_argument("--out", metavar="FILE", help="write everything to this JSON file")
