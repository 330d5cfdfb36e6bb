"""The command `select`: from a saved scan, and a text where the rule needs one, to a file of tickets.

Must never train, nor read a model's weights: a text is read by the model's tokenizer alone.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ks_lottery.corpus.batches import encode, occurrences
from ks_lottery.corpus.monolingual import read_sentences, token_counts
from ks_lottery.corpus.readers import read_corpus
from ks_lottery.errors import UserError
from ks_lottery.models.load import load_tokenizer, open_checkpoint
from ks_lottery.models.rows import reachable_rows
from ks_lottery.models.tokens import read_vocabulary
from ks_lottery.scans import SCORES, Scan
from ks_lottery.tickets import Tickets, select, select_by_frequency, select_by_occurrence, select_random

if TYPE_CHECKING:
    import argparse
    from collections import Counter

    from transformers import PreTrainedTokenizerBase

    from ks_lottery.corpus.batches import Example
    from ks_lottery.corpus.corpus import Corpus


def run_select(arguments: argparse.Namespace) -> int:
    """Do what the command line asks for, and return the exit code."""
    scan = _embedding(Scan.open(Path(arguments.scan)), arguments.tensor)
    if arguments.by in SCORES:
        tickets = select(
            scan,
            alpha=arguments.alpha,
            interval=None if arguments.interval is None else (arguments.interval[0], arguments.interval[1]),
            top_k=arguments.top_k,
            by=arguments.by,
            correction=arguments.correction,
        )
    else:
        tickets = _by_text(scan, arguments)
    tickets.save(Path(arguments.out), _tokens(scan, arguments))
    sys.stdout.write(f"{len(tickets):,} of {len(scan):,} rows written to {arguments.out}\n")
    return 0


def _embedding(scan: Scan, tensor: str | None) -> Scan:
    """Return the part of a scan that rows are selected from."""
    if tensor is not None:
        return scan.only(tensor)
    if len(scan.parts) == 1:
        return scan
    known = [part.tensor for part in scan.parts if scan.is_vocabulary(part)]
    if len(known) != 1:
        raise UserError(
            f"the scan holds {len(scan.parts)} tensors: name one with --tensor, such as {scan.parts[0].tensor}"
        )
    return scan.only(known[0])


def _by_text(scan: Scan, arguments: argparse.Namespace) -> Tickets:
    if arguments.top_k is None:
        raise UserError(f"--by {arguments.by} needs --top-k, the number of rows")
    size, every = arguments.top_k, np.arange(len(scan), dtype=np.int64)
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
