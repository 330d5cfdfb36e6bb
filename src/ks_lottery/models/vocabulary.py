"""The token string of each row, safe to print on one line, and whether two vocabularies mean the same by their ids.

Must never raise for an id that the tokenizer does not know.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

SLOW_FILES = ("tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")
"""Files of tokenizers that have no ``tokenizer.json``."""


@dataclass(frozen=True)
class Vocabulary:
    """What the ids of a tokenizer mean.

    Parameters
    ----------
    names
        The tokenizer's own name of each id, as it is in its files; empty for an unused id.
    shown
        The same for people, quoted, with control characters escaped.
    """

    names: tuple[str, ...]
    shown: tuple[str, ...]


def display(text: str) -> str:
    r"""Return `text` quoted, with control characters and other unprintable ones escaped.

    >>> print(display("\n"), display(" the"))
    '\n' ' the'
    """
    return repr(text)


def _shown(names: Sequence[Any], texts: Sequence[str]) -> list[str]:
    """Show decoded texts, and the tokenizer's own name for bytes that are only part of a character."""
    return [
        display(str(name)) if "\ufffd" in text or not text else display(text)
        for name, text in zip(names, texts, strict=True)
    ]


def token_strings(tokenizer: PreTrainedTokenizerBase, vocabulary: int) -> list[str]:
    """Return what each of `vocabulary` rows stands for.

    A token that is only part of a character is shown as the tokenizer's own name of its bytes.
    """
    names = tokenizer.convert_ids_to_tokens(list(range(min(vocabulary, len(tokenizer)))))
    texts = tokenizer.batch_decode([[i] for i in range(len(names))])
    return _shown(names, texts) + ["''"] * (vocabulary - len(names))


def read_vocabulary(folder: Path) -> Vocabulary | None:
    """Read the vocabulary that lies beside a checkpoint, without transformers where there is a ``tokenizer.json``.

    Returns
    -------
    Vocabulary or None
        None when no tokenizer lies there.

    Raises
    ------
    UserError
        When the tokenizer is damaged.
    """
    fast = folder / "tokenizer.json"
    if fast.is_file():
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_file(str(fast))
        except Exception as error:  # tokenizers raises nothing more special
            raise UserError(f"{fast} cannot be read as a tokenizer: get it again, or remove it") from error
        count = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        names = [tokenizer.id_to_token(i) or "" for i in range(count)]
        texts = tokenizer.decode_batch([[i] for i in range(count)], skip_special_tokens=False)
        return Vocabulary(tuple(names), tuple(_shown(names, texts)))
    if not any((folder / name).is_file() for name in SLOW_FILES):
        return None
    from transformers import AutoTokenizer

    from ks_lottery.models.quiet import quiet

    with quiet():
        try:
            slow: Any = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"the tokenizer in {folder} cannot be loaded: {error}") from error
    names = [str(name) for name in slow.convert_ids_to_tokens(list(range(len(slow))))]
    return Vocabulary(tuple(names), tuple(token_strings(slow, len(slow))))


def tokens_here(name: str) -> tuple[str, ...] | None:
    """Return the token strings of a model where they lie on this machine; nothing is fetched.

    Parameters
    ----------
    name
        What a manifest calls the model, which may no longer be there.

    Returns
    -------
    tuple of str or None
        One string a row of the tokenizer, as `Vocabulary.shown`; None when the model is gone or has no readable tokenizer.
    """
    folder = _folder_here(name)
    try:
        vocabulary = None if folder is None else read_vocabulary(folder)
    except UserError:
        return None
    return None if vocabulary is None else vocabulary.shown


def _folder_here(name: str) -> Path | None:
    from pathlib import Path

    from ks_lottery.models.gguf import converted
    from ks_lottery.models.load import DEFAULT_MODEL, is_hub_id
    from ks_lottery.store import assets

    path = Path(name).expanduser()
    if name == DEFAULT_MODEL and (assets.cache_folder() / "assets" / assets.MODEL_WHEEL.folder).is_dir():
        path = assets.model_gguf()
    if path.is_dir():
        return path
    if path.is_file():
        try:
            return converted(path) if path.suffix == ".gguf" else path.parent
        except UserError:
            return None
    if not is_hub_id(name):
        return None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, "config.json")
    return Path(found).parent if isinstance(found, str) else None


def check_same(one: Vocabulary | None, other: Vocabulary | None, names: tuple[str, str]) -> None:
    """Refuse to compare rows whose ids mean different strings; ids that only one side has are no difference.

    Raises
    ------
    UserError
        When an id that both have means something else in each.
    """
    if one is None or other is None:
        return
    both = zip(one.names, other.names, strict=False)
    differing = [i for i, (a, b) in enumerate(both) if a != b and a and b]
    if differing:
        first = differing[0]
        raise UserError(
            f"the tokenizers of {names[0]} and {names[1]} mean different strings by {len(differing):,} ids, the first of them "
            f"{first} ({one.shown[first]} and {other.shown[first]}), so that rows cannot be compared by id: pass "
            "--ignore-tokenizer to compare them all the same"
        )
