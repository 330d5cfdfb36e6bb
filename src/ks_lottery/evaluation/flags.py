"""Flags that commands which measure on a text share, and those of `evaluate`.

Must never import torch: this is what `--help` waits for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def add_data_flags(one: argparse.ArgumentParser) -> None:
    """Add the flags of the text that is measured on."""
    group = one.add_argument_group("text")
    group.add_argument("--data", required=True, metavar="TEXT", help="file, or name of a Hugging Face dataset")
    group.add_argument("--target", metavar="FILE", help="the other of two line-aligned files")
    group.add_argument("--format", default="auto", help="format of the text (default: by its ending)")
    group.add_argument("--source-language", default="en", metavar="LANG", help="translate from (default: en)")
    group.add_argument("--target-language", default="ca", metavar="LANG", help="translate to (default: ca)")
    group.add_argument("--source-column", metavar="NAME", help="column of the source sentence")
    group.add_argument("--target-column", metavar="NAME", help="column of the target sentence")
    group.add_argument("--dataset-config", metavar="NAME", help="configuration of a dataset")
    group.add_argument("--dataset-split", default="test", metavar="NAME", help="split of a dataset (default: test)")
    group.add_argument("--dataset-streaming", action="store_true", help="read a dataset without storing it first")
    group.add_argument("--limit", type=int, metavar="N", help="read the first N pairs only")
    group.add_argument("--template", default="alpaca", help="prompt: alpaca (default), plain, chat, or your own")
    group.add_argument("--instruction", help="of every prompt, in place of the text's or our own")
    group.add_argument(
        "--max-tokens",
        type=int,
        metavar="N",
        help="leave out longer examples (default: refuse what the model cannot see)",
    )


def add_model_flags(one: argparse.ArgumentParser) -> None:
    """Add the flags of how a model runs."""
    group = one.add_argument_group("how it runs")
    group.add_argument("--batch-size", type=int, default=16, metavar="N", help="sentences at a time (default: 16)")
    group.add_argument("--no-share-prefix", dest="share_prefix", action="store_false", help="compute each prompt whole")
    group.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16"), help="of the model")
    group.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"), help="where it runs")
    group.add_argument("--seed", type=int, default=0, help="of every random choice (default: 0)")
    group.add_argument("--trust-remote-code", action="store_true", help="run Python code of the checkpoint")
