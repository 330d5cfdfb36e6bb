"""The command `tune`: tune a model by a method of the paper."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_lottery.cli.options import add_text, second_source, text_source
from ks_lottery.config.choices import DEVICES, DTYPES, METHODS, PRESETS, QUANTIZATIONS, SIDES
from ks_lottery.config.settings import TrainConfig
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    import argparse

    from ks_lottery.checkpoint.reader import Checkpoint
    from ks_lottery.corpus.corpus import Corpus
    from ks_lottery.report.screen import Screen
    from ks_lottery.tuning.plan import Plan
    from ks_lottery.tuning.tune import TuneResult, TuneSpec, Tuning

LOGS = "logs"
"""Folder of TensorBoard's files, in the unfinished work and in the result."""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    parser.epilog = (
        "Learning rate and epochs are the paper's for each method unless given; on the embedded model, whose rows are narrow, "
        "methods that train rows use 1e-2. The other defaults are ours: --preset paper sets the paper's; flags go over it. "
        "The same command resumes an interrupted training. Several processes: start it with "
        "torchrun or accelerate launch; a step then has processes x batch-size x gradient-accumulation examples."
    )
    parser.add_argument("model", help="folder, GGUF file, hub id, or asset:smollm2-135m-instruct")
    parser.add_argument("--method", required=True, choices=tuple(METHODS), metavar="METHOD", help=_methods())
    parser.add_argument("--out", metavar="DIR", help="folder to write (default: runs/tune-METHOD)")
    parser.add_argument("--tickets", metavar="FILE", help="JSON file that select wrote, for partial and frozen")
    parser.add_argument(
        "--size", type=int, metavar="N", help="rows that are trained; frozen: first tickets that are not"
    )
    parser.add_argument("--corpus", metavar="TEXT", help="text of the target language, for frequency")
    parser.add_argument("--side", default="input", choices=SIDES, help="embedding (default: input)")
    parser.add_argument("--layers", metavar="LAYERS", help="for full: numbers (3 or 0,4-7) or names ('*.mlp.*')")
    parser.add_argument(
        "--quantize", choices=QUANTIZATIONS, help="frozen body in 4 bits (needs bitsandbytes); qlora has it always"
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
    group.add_argument("--max-tokens", type=int, help="longer examples are left out (default: 512)")
    measured = group.add_mutually_exclusive_group()
    measured.add_argument("--validation", metavar="TEXT", help="text to measure the loss on")
    measured.add_argument("--validation-share", type=float, metavar="P", help="or this share of --train, by hash")


def _add_training(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("training")
    group.add_argument("--preset", choices=PRESETS, help=f"{'; '.join(f'{n}: {s}' for n, s in PRESETS.items())}")
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
        "--dtype", default="auto", choices=DTYPES,
        help="type of the frozen body; what is trained is float32 (full tuning computes in this type)",
    )  # fmt: skip
    group.add_argument("--device", default="auto", choices=DEVICES, help="where to train")
    group.add_argument("--seed", type=int, help="seed for all random choices (default: 0)")
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
    from contextlib import nullcontext

    from ks_lottery.models.load import open_checkpoint
    from ks_lottery.models.vocabulary import token_strings
    from ks_lottery.report.screen import Screen
    from ks_lottery.store.work_folder import WorkFolder
    from ks_lottery.tuning.processes import joined_processes
    from ks_lottery.tuning.tune import prepare

    with joined_processes() as main:
        screen = Screen(total=2)
        work = WorkFolder(Path(arguments.out or f"runs/tune-{arguments.method}"))
        with screen.stage("open model and text", silent=not main):
            checkpoint = open_checkpoint(arguments.model)
            corpus, validation = _texts(arguments)
            tuning = prepare(checkpoint, corpus, _spec(arguments, checkpoint, work.unfinished), validation)
        _show(screen, tuning, silent=not main)
        if arguments.dry_run:
            with screen.stage("measure two steps", silent=not main):
                plan = tuning.plan()
            _show(screen, plan, silent=not main)
            return 0
        manifest = tuning.manifest
        if work.is_done(manifest):
            if main:
                screen.say(f"{work.out} was made by the same command before: nothing to do")
            return 0
        with work.claimed(manifest) if main else nullcontext():
            with screen.training(f"{arguments.method} tuning", silent=not main) as watch:
                result = tuning.run(watch=watch)
            if main:
                with work.publish(manifest, keep=[LOGS]) as folder:
                    result.save(folder, token_strings(tuning.loaded.tokenizer, tuning.loaded.checkpoint.vocabulary))
                _show(screen, result)
                screen.say(f"        written to {work.out}")
    return 0


def _show(screen: Screen, noun: Tuning | Plan | TuneResult[Any], *, silent: bool = False) -> None:
    for section in [] if silent else noun.sections():
        for sentence in section.sentences:
            screen.say(f"        {sentence}")


def _texts(arguments: argparse.Namespace) -> tuple[Corpus, Corpus | None]:
    from ks_lottery.corpus.selection import hold_out
    from ks_lottery.corpus.source import read_text

    corpus = read_text(text_source(arguments, arguments.train))
    if arguments.validation is not None:
        return corpus, read_text(second_source(arguments, arguments.validation))
    if arguments.validation_share is not None:
        return hold_out(corpus, arguments.validation_share)
    return corpus, None


def _spec(arguments: argparse.Namespace, checkpoint: Checkpoint, folder: Path) -> TuneSpec:
    from ks_lottery.store.files import read_json
    from ks_lottery.tickets.tickets import Tickets
    from ks_lottery.tuning.methods import defaults
    from ks_lottery.tuning.tune import TuneSpec

    trackers = [str(name) for name in arguments.report_to or []]
    given = {field.name: vars(arguments)[field.name] for field in fields(TrainConfig) if field.name in arguments}
    chosen = defaults(arguments.preset, arguments.method, given, seed=arguments.seed, max_tokens=arguments.max_tokens)
    return TuneSpec(
        method=arguments.method,
        tickets=None if arguments.tickets is None else Tickets.open(Path(arguments.tickets)),
        size=arguments.size,
        frequencies=_frequencies(arguments, checkpoint),
        side=arguments.side,
        layers=arguments.layers,
        quantize=arguments.quantize,
        template=arguments.template,
        max_tokens=chosen["max_tokens"],
        dtype=arguments.dtype,
        device=arguments.device,
        trust_remote_code=arguments.trust_remote_code,
        seed=chosen["seed"],
        settings=chosen["settings"],
        folder=folder,
        save_every=arguments.save_every,
        evaluate_every=arguments.evaluate_every,
        patience=arguments.patience,
        report_to=trackers,
        logs=folder / LOGS if "tensorboard" in trackers else None,
        fsdp=arguments.fsdp,
        fsdp_config={} if arguments.fsdp_config is None else read_json(Path(arguments.fsdp_config)),
    )


def _frequencies(arguments: argparse.Namespace, checkpoint: Checkpoint) -> dict[int, int]:
    if arguments.corpus is None:
        return {}
    if arguments.method != "frequency":
        raise UserError(f"--corpus is what frequency tuning counts tokens in, and has no use for {arguments.method}")
    from ks_lottery.corpus.monolingual import read_sentences, token_counts
    from ks_lottery.models.load import load_tokenizer

    sentences = read_sentences(
        arguments.corpus, source_language=arguments.source_language, target_language=arguments.target_language
    )
    return token_counts(load_tokenizer(checkpoint, trust_remote_code=arguments.trust_remote_code), sentences)
