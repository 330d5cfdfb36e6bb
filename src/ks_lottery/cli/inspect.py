"""The command `inspect`: a text as the model will see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ks_lottery.cli.options import add_text
from ks_lottery.config.choices import DEFAULT_MODEL

if TYPE_CHECKING:
    import argparse


def add(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    parser.add_argument("text", help="file or Hugging Face dataset of parallel text, as for run --text.train")
    parser.add_argument("--model", default=DEFAULT_MODEL, metavar="M", help="whose tokenizer (default: the demo's)")
    add_text(parser, split="train")
    parser.add_argument("--max-tokens", type=int, default=512, metavar="N", help="longest example (default: 512)")
    parser.add_argument("--examples", type=int, default=3, metavar="N", help="examples to show (default: 3)")
    parser.add_argument(
        "--keep-all", dest="clean", action="store_false", help="do not clean the text first, as run does"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    import sys

    from ks_lottery.cli.options import text_source
    from ks_lottery.evaluation.inspect import inspect
    from ks_lottery.report.screen import Screen
    from ks_lottery.store.files import to_json

    inspection = inspect(
        text_source(arguments, arguments.text),
        arguments.model,
        template=arguments.template,
        max_tokens=arguments.max_tokens,
        examples=arguments.examples,
        clean=arguments.clean,
    )
    if arguments.json:
        sys.stdout.write(to_json(inspection.as_dict()))
    else:
        Screen(total=1).show(inspection.sections())
    return 0
