"""The token string of each row, safe to print on one line, and whether two vocabularies mean the same by their ids."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_lottery.checkpoint.file_bytes import is_there, path_of
from ks_lottery.checkpoint.gguf_rows import GgufRows
from ks_lottery.checkpoint.memory import MemoryCheckpoint
from ks_lottery.corpus.token_kinds import NO_TOKEN, PART, SPECIAL, kinds_of_shown
from ks_lottery.errors import UserError
from ks_lottery.models.gguf import converted_before, gguf_tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

    from ks_lottery.checkpoint.tensors import Source

SLOW_FILES = ("tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")
"""Files of tokenizers that have no ``tokenizer.json``."""

MOST_IDS = 1 << 22
"""Ids that are read where the number of rows is not known; the largest vocabularies have a sixteenth of that."""


@dataclass(frozen=True)
class Vocabulary:
    """What the ids of a tokenizer mean.

    Parameters
    ----------
    names
        The tokenizer's own name of each id, as in its files; empty for an unused id.
    shown
        The text of each id, quoted, with control characters escaped. A token that is only part of a character is shown by the
        tokenizer's own name of its bytes.
    special
        Ids of special tokens.
    partial
        Ids whose bytes are only part of a character.
    """

    names: tuple[str, ...]
    shown: tuple[str, ...]
    special: frozenset[int] = frozenset()
    partial: frozenset[int] = frozenset()

    def kinds_of(self, rows: int) -> tuple[str, ...]:
        """Return what kind of text the token of each of `rows` rows is: one of `ks_lottery.corpus.token_kinds.KINDS`."""
        kinds = kinds_of_shown(self.shown[:rows])
        for ids, kind in ((self.partial, PART), (self.special, SPECIAL)):
            for i in ids:
                if i < len(kinds):
                    kinds[i] = kind
        return (*kinds, *[NO_TOKEN] * (rows - len(kinds)))


def display(text: str) -> str:
    r"""Return `text` quoted, with control characters and other unprintable ones escaped.

    >>> print(display("\n"), display(" the"))
    '\n' ' the'
    """
    return repr(text)


def _shown(name: str, text: str) -> str:
    """Show the decoded text of a token, or its name where its bytes are only part of a character."""
    return display(name) if "\ufffd" in text or not text else display(text)


def vocabulary_of(tokenizer: PreTrainedTokenizerBase | Tokenizer, rows: int = MOST_IDS) -> Vocabulary:
    """Return the vocabulary of a tokenizer of transformers or of tokenizers.

    Parameters
    ----------
    rows
        Ids from this one on are passed over: the model has no row for them, and a file may name any number.
    """
    fast: Any = getattr(tokenizer, "backend_tokenizer", None) or tokenizer
    if not hasattr(fast, "id_to_token"):
        names = [str(name or "") for name in fast.convert_ids_to_tokens(list(range(min(len(fast), rows))))]
        texts = fast.batch_decode([[i] for i in range(len(names))])
        special = frozenset(getattr(fast, "all_special_ids", ()))
        return Vocabulary(tuple(names), tuple(map(_shown, names, texts)), special, _partial(enumerate(texts)))
    ids = sorted({i for i in fast.get_vocab(with_added_tokens=True).values() if i < rows})
    count = ids[-1] + 1 if ids else 0
    names, shown = [""] * count, [display("")] * count
    texts = fast.decode_batch([[i] for i in ids], skip_special_tokens=False)
    for i, text in zip(ids, texts, strict=True):
        names[i] = fast.id_to_token(i) or ""
        shown[i] = _shown(names[i], text)
    special = frozenset(i for i, token in fast.get_added_tokens_decoder().items() if token.special)
    return Vocabulary(tuple(names), tuple(shown), special, _partial(zip(ids, texts, strict=True)))


def _partial(texts: Iterable[tuple[int, str]]) -> frozenset[int]:
    """Return the ids whose text is not whole characters."""
    return frozenset(i for i, text in texts if "\ufffd" in text)


def token_strings(tokenizer: PreTrainedTokenizerBase, vocabulary: int) -> list[str]:
    """Return what each of `vocabulary` rows stands for, as `Vocabulary.shown`; ``''`` for a row without a token."""
    shown = vocabulary_of(tokenizer, vocabulary).shown
    return [*shown, *["''"] * (vocabulary - len(shown))]


def read_vocabulary(folder: Path, rows: int = MOST_IDS) -> Vocabulary | None:
    """Read the vocabulary in the folder of a checkpoint, without transformers where there is a ``tokenizer.json``.

    Parameters
    ----------
    rows
        Rows of the embedding, where they are known; see `vocabulary_of`.

    Returns
    -------
    Vocabulary or None
        None when the folder has no tokenizer.

    Raises
    ------
    UserError
        When the tokenizer is damaged.
    """
    fast = folder / "tokenizer.json"
    if is_there(fast):
        from tokenizers import Tokenizer

        try:
            return vocabulary_of(Tokenizer.from_file(str(fast)), rows)
        except Exception as error:  # tokenizers raises nothing more special
            raise UserError(f"{fast} cannot be read as a tokenizer: get it again, or remove it") from error
    if not any(is_there(folder / name) for name in SLOW_FILES):
        return None
    from transformers import AutoTokenizer

    from ks_lottery.models.quiet import quiet

    with quiet():
        try:
            return vocabulary_of(AutoTokenizer.from_pretrained(str(folder), local_files_only=True), rows)
        except Exception as error:  # what a damaged file makes a tokenizer raise has no common type
            raise UserError(f"the tokenizer in {folder} cannot be loaded: {error}") from error


def vocabulary_of_source(source: Source) -> Vocabulary | None:
    """Return the vocabulary of a model on disk, by its folder, or in memory, by its tokenizer; None where there is none."""
    if isinstance(source, GgufRows):
        return vocabulary_of(gguf_tokenizer(source.folder), source.vocabulary)
    if isinstance(source, MemoryCheckpoint):
        return None if source.tokenizer is None else vocabulary_of(source.tokenizer)
    try:
        rows = max(source.units[name].count for name in (source.embedding, source.head))
    except UserError:  # no language model: nothing says how many tokens it has
        rows = MOST_IDS
    return read_vocabulary(source.folder, rows)


def tokens_here(name: str) -> tuple[str, ...] | None:
    """Return the token strings of a model that is on this machine; nothing is fetched.

    Parameters
    ----------
    name
        Name of the model in a manifest; the model may no longer exist.

    Returns
    -------
    tuple of str or None
        One string a row of the tokenizer, as `Vocabulary.shown`; None when the model is gone or has no readable tokenizer.
    """
    try:
        place = _place_here(name)
        if place is None:
            return None
        vocabulary = vocabulary_of(gguf_tokenizer(place)) if place.is_file() else read_vocabulary(place)
    except UserError:
        return None
    return None if vocabulary is None else vocabulary.shown


def _place_here(name: str) -> Path | None:
    """Return the folder of a model that is on this machine, or its GGUF file where that was not converted yet."""
    from ks_lottery.models.hub_folder import is_hub_id
    from ks_lottery.store.embedded_models import is_here, model_gguf

    path = path_of(name)
    if is_here(name):
        path = model_gguf(name)
    if path.is_dir():
        return path
    if path.is_file():
        return converted_before(path) or path if path.suffix == ".gguf" else path.parent
    if not is_hub_id(name):
        return None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        file = try_to_load_from_cache(name, "config.json")
    except HFValidationError:  # a name that no repository can have
        return None
    return Path(file).parent if isinstance(file, str) else None


def check_same(base: Vocabulary | None, tuned: Vocabulary | None, names: tuple[str, str]) -> None:
    """Refuse to compare rows whose ids mean different strings; an id that only one side has is no difference.

    Raises
    ------
    UserError
        When an id that both have means something else in each.
    """
    if base is None or tuned is None:
        return
    both = zip(base.names, tuned.names, strict=False)
    differing = [i for i, (a, b) in enumerate(both) if a != b and a and b]
    if differing:
        first = differing[0]
        raise UserError(
            f"the tokenizers of {names[0]} and {names[1]} mean different strings by {len(differing):,} ids, the first of them "
            f"{first} ({base.shown[first]} and {tuned.shown[first]}), so that rows cannot be compared by id: pass "
            "`ignore_tokenizer=True` to compare them all the same"
        )
