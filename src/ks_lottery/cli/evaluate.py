"""The command `evaluate`: translations and their scores, next-token accuracy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ks_lottery.cli.options import add_data, add_model

if TYPE_CHECKING:
    import argparse


def add(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    parser.epilog = (
        "spBLEU needs sacrebleu's SentencePiece model: it is fetched once, or give its path; without it the other metrics are "
        "scored, and one line says which file to put where. The same command goes on where it was stopped."
    )
    parser.add_argument("model", help="folder, GGUF file, hub id, or asset:smollm2-135m-instruct")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--patch", metavar="P", help="folder of a row patch to put on the model")
    which.add_argument("--adapter", metavar="A", help="folder of a PEFT adapter to put on the model")
    parser.add_argument(
        "--out", default="runs/evaluate", metavar="DIR", help="folder to write (default: runs/evaluate)"
    )
    parser.add_argument(
        "--metrics", default="spbleu,bleu,chrf,accuracy", metavar="M,M",
        help="spbleu (or spbleu-flores101, spbleu-flores200), bleu, chrf, accuracy (default: all)",
    )  # fmt: skip
    parser.add_argument(
        "--language-check", action="store_true", help="share of outputs in the target language (extra: language)"
    )
    parser.add_argument(
        "--against", nargs="+", metavar="DIR", help="other evaluations of the same text to compare with"
    )
    parser.add_argument("--positions", type=int, metavar="N", help="first target positions for accuracy (default: all)")
    parser.add_argument("--resamples", type=int, default=1000, metavar="N", help="of the bootstrap (default: 1000)")
    parser.add_argument("--confidence", type=float, default=0.95, help="of intervals (default: 0.95)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    group = parser.add_argument_group("translation")
    group.add_argument("--num-beams", type=int, default=4, metavar="N", help="1 is greedy (default: 4)")
    group.add_argument("--max-new-tokens", type=int, default=256, metavar="N", help="longest output (default: 256)")
    group.add_argument(
        "--generation",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="more settings of generate, such as length_penalty=0.8",
    )
    group.add_argument(
        "--spm", nargs="+", default=[], metavar="NAME=FILE", help="SentencePiece model of flores101 or flores200"
    )
    add_data(parser)
    add_model(parser, seed=12345)


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from ks_lottery.cli._evaluate import run_evaluate

    return run_evaluate(arguments)
