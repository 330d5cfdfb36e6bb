"""The flags of how parallel text is read, shared by the commands that take one.

Must never import anything heavy: this is what `--help` waits for.
"""

from __future__ import annotations

from typing import Any


def add_text_flags(group: Any, *, split: str) -> None:
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
