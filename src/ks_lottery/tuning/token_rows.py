"""Rows for tokens that a vocabulary does not have: which tokens, and from which values their rows start."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ks_lottery.checkpoint.added_tokens import SETTING
from ks_lottery.checkpoint.file_bytes import path_of
from ks_lottery.checkpoint.grown import grown, mean_row
from ks_lottery.corpus.corpus import Corpus
from ks_lottery.corpus.costly_pieces import costly_pieces
from ks_lottery.errors import UserError, shortened
from ks_lottery.models.new_tokens import checked_texts, extended, tokens_added
from ks_lottery.models.sides import check_side
from ks_lottery.store.json_content import parse_json
from ks_lottery.tickets.tickets import Tickets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ks_lottery.checkpoint.added_tokens import AddedTokens
    from ks_lottery.checkpoint.reader import Checkpoint
    from ks_lottery.corpus.batches import Example
    from ks_lottery.models.load import LoadedModel
    from ks_lottery.tuning.tune_spec import TuneSpec

NEW_TOKENS = "new-tokens"
"""Name of the method."""

LISTED = 12
"""Tokens that are shown by their texts."""

_FILES = (".txt", ".tsv", ".json", ".csv")


@dataclass(frozen=True, kw_only=True)
class TokenRows:
    """New tokens of a tuning.

    Parameters
    ----------
    added
        The tokens.
    init
        From which values their rows start.
    said
        Sentences on how they were found.
    """

    added: AddedTokens
    init: str
    said: tuple[str, ...] = ()

    @property
    def described(self) -> dict[str, Any]:
        """What the settings of a patch say of them."""
        return {SETTING: self.added.as_dict(), "init": self.init}

    def sentences(self, examples: Sequence[Example], side: str) -> list[str]:
        """Say where their rows are, and which of them the examples cannot train.

        Parameters
        ----------
        examples
            What is trained on.
        side
            The side that is trained.
        """
        texts = [shortened(text) for text in self.added.texts]
        listed = ", ".join(texts[:LISTED]) + ("" if len(texts) <= LISTED else f" and {len(texts) - LISTED:,} more")
        read = Counter(token for example in examples for token in example.sequence[:-1])
        written = {token for example in examples for token in example.response}
        unread = [token for token in self.added.ids if not read[token]]
        sentences = [*self.said, self.added.sentence(), f"new tokens: {listed}; their rows start from {self.init}"]
        if unread and side != "output":
            sentences.append(
                f"{len(unread):,} of the new tokens do not occur in the examples: on the input side their rows cannot move"
            )
        answered = sum(token in written for token in self.added.ids)
        if answered and side == "input":
            sentences.append(
                f"{answered:,} of the new tokens occur in what the model is to write, and side input trains no row to write "
                "them by: --side both does"
            )
        return sentences


def with_token_rows(
    spec: TuneSpec, loaded: LoadedModel, corpus: Corpus | Sequence[Example]
) -> tuple[TuneSpec, LoadedModel, TokenRows | None]:
    """Return what a tuning is asked for with the rows of its new tokens, the model with these tokens, and what is said of them.

    All are as they were for another method.

    Raises
    ------
    UserError
        When the tokens cannot be read, exist already, or the model cannot have them.
    """
    if spec.method != NEW_TOKENS:
        return spec, loaded, None
    if spec.tickets is not None:
        raise UserError("new-tokens tuning has the rows of its tokens: give further rows as `also_rows`")
    if not isinstance(corpus, Corpus):
        raise UserError(
            "new-tokens tuning splits the text into tokens itself: give a text (a corpus or a file), not examples"
        )
    texts, described, said, init = _asked(spec, loaded, corpus)
    start_of = {"mean": None, "subwords": texts, "description": described}[init]
    named = {
        "mean": "the mean of all rows",
        "subwords": "the mean of the rows of what their texts were before",
        "description": "the mean of the rows of their descriptions",
    }
    rows = [None if start_of is None else _ids(loaded, text) for text in start_of or texts]
    for text, found in zip(texts, rows, strict=True):
        if found == []:
            raise UserError(
                f"`init={init}`: nothing that {shortened(text)} would start from has a row in {loaded.checkpoint.name}: give "
                "`init=mean`"
            )
    model, added = grown_model(loaded, texts, rows)
    ids = np.array(added.ids, dtype=np.int64)
    if spec.also_rows is not None:
        spec.also_rows.check_base(loaded.checkpoint)
        ids = np.union1d(ids, spec.also_rows.ids)
    rule = {
        "selector": NEW_TOKENS,
        "size": len(added.ids),
        **({} if spec.also_rows is None else {"also": len(ids) - len(added.ids)}),
    }
    about = TokenRows(added=added, init=named[init], said=tuple(said))
    return replace(spec, tickets=Tickets(rows=ids, rule=rule)), model, about


def grown_model(
    loaded: LoadedModel, texts: Sequence[str], rows: Sequence[Sequence[int] | None]
) -> tuple[LoadedModel, AddedTokens]:
    """Return a model whose tokenizer and checkpoint have new tokens; its weights are not touched.

    Parameters
    ----------
    texts
        The tokens.
    rows
        For each, the rows whose mean its own starts from; None for the mean of all.

    Raises
    ------
    UserError
        When a token exists already, or the model's embedding or head cannot have further rows.
    """
    base = loaded.checkpoint
    tokenizer, ids = extended(loaded.tokenizer, texts)
    added = tokens_added(texts, ids, base.units[base.embedding].count)
    if added.grows:
        check_side(loaded.lm, "both", base.name)
    of_id = dict(zip(ids, rows, strict=True))
    start = {name: _start(base, [of_id[token] for token in added.ids], name) for name in ("input", "output")}
    return replace(loaded, checkpoint=grown(base, added, start), tokenizer=tokenizer), added


def _start(base: Checkpoint, rows: Sequence[Sequence[int] | None], side: str) -> torch.Tensor:
    """Return the values from which rows start, shape (K, d), float32."""
    mean = mean_row(base, side)
    parts = [mean if not ids else base.rows(np.array(ids, dtype=np.int64), side).mean(dim=0) for ids in rows]
    return torch.stack(parts)


def _asked(spec: TuneSpec, loaded: LoadedModel, corpus: Corpus) -> tuple[tuple[str, ...], list[str], list[str], str]:
    """Return the texts of the tokens, their descriptions, what is said of them, and the kind of their first values."""
    if spec.tokens == "auto":
        texts, said = _pieces(spec, loaded, corpus)
        described = [spec.description or ""] * len(texts)
    else:
        lines, said = read_tokens(spec.tokens), list[str]()
        texts = checked_texts([text for text, _ in lines])
        described = [own or spec.description or "" for _, own in lines]
    init = ("subwords" if spec.tokens == "auto" else "mean") if spec.init == "auto" else spec.init
    bare = [text for text, description in zip(texts, described, strict=True) if not description.strip()]
    if init == "description" and bare:
        raise UserError(
            f"`init=description`: {shortened(bare[0])} has no description: give `description`, or one "
            "behind each token of the file and a tab"
        )
    if init != "description" and any(described):
        raise UserError(
            "a description is what `init=description` starts from: give that too, or leave the description out"
        )
    return texts, described, said, init


def read_tokens(given: str) -> list[tuple[str, str]]:
    """Return tokens with their descriptions, empty for none: from a file, a JSON list, or texts with commas between them.

    A file has one token a line, a description behind a tab, and blank lines are passed over; spaces around a token are its own.

    Raises
    ------
    UserError
        When the file cannot be read, or the list is none of texts.

    Examples
    --------
    >>> read_tokens("<a>, <b>")
    [('<a>', ''), ('<b>', '')]
    """
    path = path_of(given) if "\n" not in given and len(given) < 1000 and not given.startswith("[") else Path()
    if path.is_file():
        try:
            lines = path.read_bytes().decode("utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise UserError(f"{path} is not UTF-8 text: convert it to UTF-8") from error
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}") from error
        parts = [line.partition("\t") for line in lines if line.strip()]
        checked_texts([text for text, _, _ in parts], str(path))
        return [(text, description.strip()) for text, _, description in parts]
    if given.startswith("["):
        listed: Any = parse_json(given, "`tokens`", "give texts with commas between them, or a JSON list of texts")
        if not isinstance(listed, list) or not all(isinstance(text, str) for text in listed):  # pyright: ignore[reportUnknownVariableType]
            raise UserError("`tokens` is JSON, but not a list of texts: give one")
        return [(text, "") for text in listed]  # pyright: ignore[reportUnknownVariableType]
    if path.suffix in _FILES:
        raise UserError(f"`tokens`: there is no file {path}: give one with a token a line, or the tokens themselves")
    return [(text.strip(), "") for text in given.split(",")] if given.strip() else []


def _pieces(spec: TuneSpec, loaded: LoadedModel, corpus: Corpus) -> tuple[tuple[str, ...], list[str]]:
    """Find the pieces of a text that cost most, and say what they save."""
    if spec.count is None:
        raise UserError(
            "new-tokens tuning needs `tokens`, or `count`, the number of pieces of the training text to find"
        )
    tokenizer: Any = loaded.tokenizer
    vocabulary = tokenizer.get_vocab()

    def lengths(texts: Sequence[str]) -> list[int]:
        return list(map(len, tokenizer(list(texts), add_special_tokens=False)["input_ids"])) if texts else []

    every = [text for pair in corpus for text in (pair.source, pair.target) if text]
    pieces = [piece for piece in costly_pieces(every, spec.count, lengths) if piece.text not in vocabulary]
    if not pieces:
        raise UserError(f"{corpus.origin} has no word of more than one token: give `tokens` yourself")
    texts = tuple(piece.text for piece in pieces)
    longer, _ = extended(tokenizer, texts)
    before, after = sum(lengths(every)), sum(map(len, longer(every, add_special_tokens=False)["input_ids"]))  # pyright: ignore[reportArgumentType, reportUnknownArgumentType]
    fewer = "" if len(texts) == spec.count else f" (no more than {len(texts):,} save a token)"
    saved = f"{len(texts):,} pieces of the training text that cost most{fewer}: {before:,} tokens become {after:,}"
    return texts, [f"{saved}, {before / len(corpus):.1f} and {after / len(corpus):.1f} a pair"]


def _ids(loaded: LoadedModel, text: str) -> list[int]:
    """Return the tokens of a text that have a row."""
    found: Any = loaded.tokenizer(text, add_special_tokens=False)["input_ids"]
    return [token for token in found if token < loaded.checkpoint.vocabulary]
