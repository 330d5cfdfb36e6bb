"""The command `tune`: tune a model by a method of the paper."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ks_lottery.cli.options import add_text
from ks_lottery.config.choices import METHODS

if TYPE_CHECKING:
    import argparse


def add(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    parser.epilog = (
        "Learning rate and epochs are the paper's for each method unless given; on the embedded model, whose rows are narrow, "
        "methods that train rows take 1e-2. The same command goes on where it was stopped. Several processes: start it with "
        "torchrun or accelerate launch; a step then holds processes x batch-size x gradient-accumulation examples."
    )
    parser.add_argument("model", help="folder, GGUF file, hub id, or asset:smollm2-135m-instruct")
    parser.add_argument("--method", required=True, choices=tuple(METHODS), metavar="METHOD", help=_methods())
    parser.add_argument("--out", metavar="DIR", help="folder to write (default: runs/tune-METHOD)")
    parser.add_argument("--tickets", metavar="FILE", help="JSON file that select wrote, for partial and frozen")
    parser.add_argument(
        "--size", type=int, metavar="N", help="rows that are trained; frozen: first tickets that are not"
    )
    parser.add_argument("--corpus", metavar="TEXT", help="text of the target language, for frequency")
    parser.add_argument(
        "--side", default="input", choices=("input", "output", "both"), help="embedding (default: input)"
    )
    parser.add_argument("--layers", metavar="LAYERS", help="for full: numbers (3 or 0,4-7) or names ('*.mlp.*')")
    parser.add_argument(
        "--quantize", choices=("nf4",), help="frozen body in 4 bits (needs bitsandbytes); qlora has it always"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print parameters, memory, steps and time, and train nothing"
    )
    _add_text(parser)
    _add_training(parser)
    _add_session(parser)


def _methods() -> str:
    lines = [f"{name}: {of.trains} (lr {of.learning_rate:g}, {of.epochs:g} epochs)" for name, of in METHODS.items()]
    return "; ".join(lines)


def _add_text(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("text")
    group.add_argument("--train", required=True, metavar="TEXT", help="file, or name of a Hugging Face dataset")
    add_text(group, split="train")
    group.add_argument("--max-tokens", type=int, default=512, help="longer examples are left out (default: 512)")
    group.add_argument("--validation", metavar="TEXT", help="text to measure the loss on")
    group.add_argument("--validation-share", type=float, metavar="P", help="or this share of --train, by hash")


def _add_training(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("training")
    group.add_argument("--learning-rate", type=float, metavar="LR", help="peak of the cosine (default: the method's)")
    group.add_argument("--epochs", type=float, help="passes over the text (default: the method's)")
    group.add_argument("--batch-size", type=int, metavar="N", help="pairs a batch and process (default: 8)")
    group.add_argument("--gradient-accumulation", type=int, metavar="N", help="batches a step (default: 1)")
    group.add_argument("--warmup-ratio", type=float, help="share of steps with a rising rate (default: 0.03)")
    group.add_argument("--max-grad-norm", type=float, help="gradients are clipped to this; 0: not (default: 1)")
    group.add_argument("--weight-decay", type=float, help="of what is trained, of nothing else (default: 0)")
    group.add_argument(
        "--no-share-prefix", dest="share_prefix", action="store_false", default=None, help="compute each prompt whole"
    )
    group.add_argument(
        "--gradient-checkpointing", action="store_true", default=None,
        help="less memory, more time; excludes the shared prefix",
    )  # fmt: skip
    group.add_argument(
        "--dtype", default="auto", choices=("auto", "float32", "bfloat16"),
        help="of the frozen body; what is trained is float32 (full tuning computes in it)",
    )  # fmt: skip
    group.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"), help="where to train")
    group.add_argument("--seed", type=int, default=0, help="of every random choice (default: 0)")
    group.add_argument("--trust-remote-code", action="store_true", help="run Python code of the checkpoint")


def _add_session(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("while it runs")
    group.add_argument("--save-every", type=int, default=100, metavar="N", help="steps between checkpoints (100)")
    group.add_argument(
        "--evaluate-every", type=int, default=0, metavar="N", help="steps between validations (an epoch)"
    )
    group.add_argument(
        "--patience",
        type=int,
        default=0,
        metavar="N",
        help="stop after N validations without a better one; keep the best",
    )
    group.add_argument(
        "--report-to", nargs="+", metavar="TRACKER", help="tensorboard, wandb, and others of transformers"
    )
    group.add_argument("--fsdp", action="store_true", help="shard the model over processes (GPUs; FSDP2)")
    group.add_argument("--fsdp-config", metavar="FILE", help="the Trainer's settings of it, JSON")


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from ks_lottery.cli._tune import run_tune

    return run_tune(arguments)
