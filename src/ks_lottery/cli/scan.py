"""The command `scan`: what fine-tuning changed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ks_lottery.config.choices import COMPARISONS, CORRECTIONS, UNITS

if TYPE_CHECKING:
    import argparse


def add(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    parser.add_argument("base", help="model before: folder, file, hub id or GGUF")
    parser.add_argument("tuned", help="model after, or a PEFT adapter or row patch over base")
    parser.add_argument(
        "--units",
        default="embedding",
        choices=UNITS,
        help="rows of the embedding (default), of the output embedding, of every matrix; all: those, and vectors",
    )
    parser.add_argument("--tensors", metavar="GLOB", help="only tensors whose name matches, such as '*.mlp.*'")
    parser.add_argument("--out", metavar="FILE", help="write every unit to this Parquet file")
    parser.add_argument("--top", type=int, default=30, metavar="N", help="units to show (default: 30)")
    parser.add_argument("--alpha", type=float, default=0.05, help="threshold of p (default: 0.05)")
    parser.add_argument(
        "--correction", default="none", choices=CORRECTIONS, help="correct p for the number of units (default: none)"
    )
    parser.add_argument(
        "--compare-as", choices=COMPARISONS,
        help=f"type in which two checkpoints are compared: {'; '.join(f'{n}, {s}' for n, s in COMPARISONS.items())} "
        "(default: coarser; float32 for a full tuning that tune made over base)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--ignore-tokenizer", action="store_true", help="compare by id although the tokenizers differ")
    parser.add_argument("--fail-above", type=float, metavar="D", help="exit with 1 when a unit's D is above this")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit code: 1 when a unit is above ``--fail-above``."""
    from ks_lottery.checkpoint.page_cache import fill_page_cache
    from ks_lottery.checkpoint.tensors import EMBEDDING_NAMES, HEAD_NAMES

    whole = arguments.units in {"matrix-rows", "all"}
    fill_page_cache(arguments.base, arguments.tuned, modules=() if whole else EMBEDDING_NAMES + HEAD_NAMES)
    # Imported only now: the disk reads meanwhile.
    from ks_lottery.report.screen import Screen
    from ks_lottery.store.files import to_json
    from ks_lottery.tickets.blocks import process_rank
    from ks_lottery.tickets.compare import compare
    from ks_lottery.tickets.power import check_alpha

    check_alpha(arguments.alpha)
    screen, first = Screen(), process_rank() == 0
    with screen.stage("scan", silent=arguments.quiet or arguments.json or not first) as tick:
        result = compare(
            arguments.base,
            arguments.tuned,
            units=arguments.units,
            tensors=arguments.tensors,
            alpha=arguments.alpha,
            compare_as=arguments.compare_as,
            ignore_tokenizer=arguments.ignore_tokenizer,
            tick=tick,
        )
    if first:  # of several processes, one writes and prints for all
        shown = {"alpha": arguments.alpha, "correction": arguments.correction, "top": arguments.top}
        content = to_json(result.as_dict(**shown)) if arguments.json else ""
        sections = [] if arguments.quiet or arguments.json else result.sections(**shown)
        if arguments.out:
            result.save(arguments.out)
        sys.stdout.write(content)
        screen.show(sections)
        if arguments.out and sections:
            screen.say(f"Every unit lies in {arguments.out}.")
    return 1 if result.has_statistic_above(arguments.fail_above) else 0
