"""The command `select`: from a saved scan, and what the rule needs beside it, to a file of tickets.

Must never train. A text is read by the model's tokenizer alone; only `gradient` over a text loads the model.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ks_lottery.checkpoint.attribution import ATTRIBUTIONS
from ks_lottery.corpus.batches import encode, occurrences
from ks_lottery.corpus.monolingual import read_sentences, token_counts
from ks_lottery.corpus.readers import read_corpus
from ks_lottery.errors import UserError
from ks_lottery.models.gradients import gradients_of
from ks_lottery.models.load import load_model, load_tokenizer, open_checkpoint
from ks_lottery.models.rows import reachable_rows
from ks_lottery.models.vocabulary import read_vocabulary
from ks_lottery.report.screen import Screen
from ks_lottery.tickets.origin import attribution_beside, recorded, tokens_part
from ks_lottery.tickets.scan import SCORES, Scan
from ks_lottery.tickets.tickets import (
    Tickets,
    select,
    select_by_attribution,
    select_by_frequency,
    select_by_occurrence,
    select_random,
)

if TYPE_CHECKING:
    import argparse
    from collections import Counter

    from transformers import PreTrainedTokenizerBase

    from ks_lottery.checkpoint.attribution import Attribution
    from ks_lottery.corpus.batches import Example
    from ks_lottery.corpus.corpus import Corpus


def run_select(arguments: argparse.Namespace) -> int:
    """Do what the command line asks for, and return the exit code."""
    scan = tokens_part(Scan.open(Path(arguments.scan)), arguments.tensor)
    if arguments.by in SCORES:
        tickets = select(
            scan,
            alpha=arguments.alpha,
            interval=None if arguments.interval is None else (arguments.interval[0], arguments.interval[1]),
            top_k=arguments.top_k,
            by=arguments.by,
            correction=arguments.correction,
        )
    elif arguments.by in ATTRIBUTIONS:
        tickets = _by_attribution(scan, arguments)
    else:
        tickets = _by_text(scan, arguments)
    tickets.save(Path(arguments.out), _tokens(scan, arguments))
    sys.stdout.write(f"{len(tickets):,} of {len(scan):,} rows written to {arguments.out}\n")
    return 0


def _size(arguments: argparse.Namespace) -> int:
    if arguments.top_k is None:
        raise UserError(f"--by {arguments.by} needs --top-k, the number of rows")
    return int(arguments.top_k)


def _by_attribution(scan: Scan, arguments: argparse.Namespace) -> Tickets:
    """Select by what embed tuning recorded, or by gradients of the original model over a text."""
    size = _size(arguments)
    if arguments.corpus is None:
        return select_by_attribution(_recorded(scan, arguments), arguments.by, size)
    if arguments.by != "gradient":
        raise UserError(f"--by {arguments.by} is recorded by embed tuning, not read from a text: give --attribution")
    if arguments.attribution is not None:
        raise UserError("--by gradient takes --attribution (while tuning) or --data (original model), not both")
    loaded = load_model(open_checkpoint(_model(scan, arguments)))
    base = scan.made_from["base"].get("fingerprint", loaded.checkpoint.fingerprint)
    if base != loaded.checkpoint.fingerprint:
        raise UserError(f"{loaded.checkpoint.name} is not the base of {arguments.scan}: give --model")
    examples = _examples(loaded.tokenizer, arguments)
    if not examples:
        raise UserError(f"no example of {arguments.corpus} fits into 512 tokens")
    with Screen(total=1).stage("gradients of the original model") as tick:
        return select_by_attribution(gradients_of(loaded, examples, tick=tick), arguments.by, size)


def _recorded(scan: Scan, arguments: argparse.Namespace) -> Attribution:
    """Open the attribution of the tuning that was scanned: where the user says, or where a run has it."""
    if arguments.attribution is not None:
        return recorded(scan, Path(arguments.attribution), arguments.scan)
    file = Path(arguments.scan)
    place = attribution_beside(file) or file.parent / "embed"
    if not place.is_dir():
        raise UserError(f"--by {arguments.by} needs --attribution, the folder of the embed tuning that was scanned")
    return recorded(scan, place, arguments.scan)


def _by_text(scan: Scan, arguments: argparse.Namespace) -> Tickets:
    size, every = _size(arguments), np.arange(len(scan), dtype=np.int64)
    if arguments.by == "random":
        return select_random(every, size, seed=arguments.seed, reachable=False)
    if arguments.corpus is None:
        raise UserError(f"--by {arguments.by} needs --corpus, the text to look at")
    checkpoint = open_checkpoint(_model(scan, arguments))
    tokenizer = load_tokenizer(checkpoint)
    if arguments.by == "frequency":
        return select_by_frequency(_frequencies(tokenizer, arguments), len(scan), size)
    examples = _examples(tokenizer, arguments)
    padding = checkpoint.config.get("pad_token_id")
    reached = reachable_rows([e.sequence for e in examples], padding if isinstance(padding, int) else None)
    if arguments.by == "random-reachable":
        return select_random(reached, size, seed=arguments.seed, reachable=True)
    return select_by_occurrence(occurrences(examples), reached, size)


def _model(scan: Scan, arguments: argparse.Namespace) -> str:
    return arguments.model or str(scan.made_from["base"]["name"])


def _tokens(scan: Scan, arguments: argparse.Namespace) -> list[str] | None:
    try:
        vocabulary = read_vocabulary(open_checkpoint(_model(scan, arguments)).folder)
    except UserError:
        return None  # the base is no longer where it was: tickets are written without their strings
    if vocabulary is None:
        return None
    return [*vocabulary.shown, *["''"] * (len(scan) - len(vocabulary.shown))]


def _read(arguments: argparse.Namespace) -> Corpus:
    return read_corpus(
        arguments.corpus, source_language=arguments.source_language, target_language=arguments.target_language
    )


def _examples(tokenizer: PreTrainedTokenizerBase, arguments: argparse.Namespace) -> list[Example]:
    return encode(tokenizer, _read(arguments), template=arguments.template)[0]


def _frequencies(tokenizer: PreTrainedTokenizerBase, arguments: argparse.Namespace) -> Counter[int]:
    sentences = read_sentences(
        arguments.corpus, source_language=arguments.source_language, target_language=arguments.target_language
    )
    return token_counts(tokenizer, sentences)
