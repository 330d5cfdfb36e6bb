"""Flags that several commands share, and the settings that they become."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from ks_lottery.config.choices import DEVICES, DTYPES, TEMPLATES
from ks_lottery.config.settings import TextSource

if TYPE_CHECKING:
    import argparse

TEMPLATES_HELP = f"{TEMPLATES[0]} (default; this project's form of it), {', '.join(TEMPLATES[1:])}"


def text_source(arguments: argparse.Namespace, text: str) -> TextSource:
    """Return the source of `text`, the text that a command is about, as the flags of `add_text` say.

    A flag that the command does not have keeps its default.
    """
    given = vars(arguments)
    names = {field.name for field in fields(TextSource)} - {"path"}
    return TextSource(path=text, **{name: given[name] for name in names & set(given)})


def second_source(arguments: argparse.Namespace, text: str, target: str | None = None) -> TextSource:
    """Return the source of a second text, such as the calibration text, which the same flags describe.

    ``--target``, ``--limit`` and ``--dataset-streaming`` belong to the first text alone.
    """
    return replace(text_source(arguments, text), target=target, limit=None, dataset_streaming=False)


def add_text(group: Any, *, split: str) -> None:
    """Add the flags of `text_source` and of the prompt to a parser or a group of one.

    Parameters
    ----------
    split
        Default split of a Hugging Face dataset.
    """
    group.add_argument("--target", metavar="FILE", help="second of two line-aligned files")
    group.add_argument("--format", default="auto", help="format of the text (default: from the file name)")
    group.add_argument("--source-language", default="en", metavar="LANG", help="translate from (default: en)")
    group.add_argument("--target-language", default="ca", metavar="LANG", help="translate to (default: ca)")
    group.add_argument("--source-column", metavar="NAME", help="column of the source sentence")
    group.add_argument("--target-column", metavar="NAME", help="column of the target sentence")
    group.add_argument("--dataset-config", metavar="NAME", help="configuration of a dataset")
    group.add_argument("--dataset-split", default=split, metavar="NAME", help=f"split of a dataset (default: {split})")
    group.add_argument("--dataset-streaming", action="store_true", help="read a dataset without storing it first")
    group.add_argument("--limit", type=int, metavar="N", help="read the first N pairs only")
    group.add_argument("--template", default="alpaca", help=f"prompt: {TEMPLATES_HELP}, or your own")
    group.add_argument("--instruction", help="instruction of every prompt, in place of the text's own or the default")


def add_data(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Add the flags of the text that is measured on."""
    group = parser.add_argument_group("text")
    group.add_argument("--data", required=required, metavar="TEXT", help="file, or name of a Hugging Face dataset")
    add_text(group, split="test")
    group.add_argument(
        "--max-tokens",
        type=int,
        metavar="N",
        help="leave out longer examples (default: refuse what the model cannot see)",
    )


def add_model(parser: argparse.ArgumentParser, seed: int | None = 0) -> None:
    """Add the flags of how a model runs, with the default of the seed; None for a command without random choices of its own."""
    group = parser.add_argument_group("how it runs")
    group.add_argument("--batch-size", type=int, default=16, metavar="N", help="sentences at a time (default: 16)")
    group.add_argument(
        "--no-share-prefix", dest="share_prefix", action="store_false", help="compute each prompt from its start"
    )
    group.add_argument("--dtype", default="auto", choices=DTYPES, help="numeric type of the model")
    group.add_argument("--device", default="auto", choices=DEVICES, help="device that the model runs on")
    if seed is not None:
        group.add_argument("--seed", type=int, default=seed, help=f"seed for all random choices (default: {seed})")
    group.add_argument("--trust-remote-code", action="store_true", help="run Python code of the checkpoint")


def add_output(parser: argparse.ArgumentParser, shown: str, most: int) -> None:
    """Add the flags of what is shown and written."""
    parser.add_argument("--top", type=int, default=most, metavar="N", help=shown)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.add_argument("--out", metavar="FILE", help="write everything to this JSON file")
