"""Flags that commands which measure on a text share, and those of `evaluate`.

Must never import torch: this is what `--help` waits for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ks_lottery.corpus.flags import add_text_flags

if TYPE_CHECKING:
    import argparse


def add_data_flags(one: argparse.ArgumentParser) -> None:
    """Add the flags of the text that is measured on."""
    group = one.add_argument_group("text")
    group.add_argument("--data", required=True, metavar="TEXT", help="file, or name of a Hugging Face dataset")
    add_text_flags(group, split="test")
    group.add_argument(
        "--max-tokens",
        type=int,
        metavar="N",
        help="leave out longer examples (default: refuse what the model cannot see)",
    )


def add_model_flags(one: argparse.ArgumentParser, seed: int = 0) -> None:
    """Add the flags of how a model runs, with the default of the seed."""
    group = one.add_argument_group("how it runs")
    group.add_argument("--batch-size", type=int, default=16, metavar="N", help="sentences at a time (default: 16)")
    group.add_argument("--no-share-prefix", dest="share_prefix", action="store_false", help="compute each prompt whole")
    group.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16"), help="of the model")
    group.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"), help="where it runs")
    group.add_argument("--seed", type=int, default=seed, help=f"of every random choice (default: {seed})")
    group.add_argument("--trust-remote-code", action="store_true", help="run Python code of the checkpoint")


def add_flags(one: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add every flag of `evaluate`, and return the parser."""
    one.epilog = (
        "spBLEU needs sacrebleu's SentencePiece model: it is fetched once, or give its path; without it the other metrics are "
        "scored, and one line says which file to put where. The same command goes on where it was stopped."
    )
    one.add_argument("model", help="folder, GGUF file, hub id, or asset:smollm2-135m-instruct")
    which = one.add_mutually_exclusive_group()
    which.add_argument("--patch", metavar="P", help="folder of a row patch to put on the model")
    which.add_argument("--adapter", metavar="A", help="folder of a PEFT adapter to put on the model")
    one.add_argument("--out", default="runs/evaluate", metavar="DIR", help="folder to write (default: runs/evaluate)")
    one.add_argument(
        "--metrics", default="spbleu,bleu,chrf,accuracy", metavar="M,M",
        help="spbleu (or spbleu-flores101, spbleu-flores200), bleu, chrf, accuracy (default: all)",
    )  # fmt: skip
    one.add_argument(
        "--language-check", action="store_true", help="share of outputs in the target language (extra: language)"
    )
    one.add_argument("--against", nargs="+", metavar="DIR", help="other evaluations of the same text to compare with")
    one.add_argument("--positions", type=int, metavar="N", help="first target positions for accuracy (default: all)")
    one.add_argument("--resamples", type=int, default=1000, metavar="N", help="of the bootstrap (default: 1000)")
    one.add_argument("--confidence", type=float, default=0.95, help="of intervals (default: 0.95)")
    one.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    group = one.add_argument_group("translation")
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
    add_data_flags(one)
    add_model_flags(one, seed=12345)
    return one
