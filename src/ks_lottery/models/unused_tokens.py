"""Which tokens of a vocabulary text never yields: reserved ones, and rows of the embedding that have no token."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from transformers import PreTrainedTokenizerBase

    from ks_lottery.models.tokenized import Tokenized

LONGEST_NAME = 100
"""Characters of a name that is looked at."""

_RESERVED = re.compile(
    r"(?:[a-z0-9_]*_)?(?:unused|reserved|dummy|place_?holder)[a-z_]*[0-9]+|(?:special|control|extra)_[0-9]+"
)
_EDGES = re.compile(r"[^\w\s].*[^\w\s]", re.DOTALL)
_ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
_OF_A_ROLE = ("token_id", "token_ids", "token_index")


@dataclass(frozen=True)
class UnusedToken:
    """A token that text never yields.

    Parameters
    ----------
    token
        Its id, from 0 to V - 1.
    text
        The text that the tokenizer turns into this token alone; empty where there is none.
    """

    token: int
    text: str = ""


def is_reserved(name: str) -> bool:
    """Say whether the name of a token is one of those that makers of tokenizers give to tokens in reserve.

    Examples
    --------
    >>> [is_reserved(name) for name in ("<unused7>", "<|reserved_special_token_0|>", "[control_8]", "<|im_start|>")]
    [True, True, True, False]
    """
    if len(name) > LONGEST_NAME or not _EDGES.fullmatch(name):
        return False
    core = re.sub(r"^[\W_]+|[\W_]+$", "", name).lower()
    return _RESERVED.fullmatch(re.sub(r"[^a-z0-9]", "_", core)) is not None


def unused_tokens(loaded: Tokenized) -> list[UnusedToken]:
    """Find the tokens that text yields only where it spells their names.

    These are tokens with a reserved name, such as ``<unused7>`` or ``<|reserved_special_token_0|>``, and rows of the embedding
    that have no token. Other special tokens are not among them, since the model may have learned their meaning. Tokens that
    the config, the tokenizer or its chat template have a use for are left out, and so are those that are built of merges. Of
    a model that is loaded, the config of its generation is asked too.

    Returns
    -------
    list of UnusedToken
        First those that can be written as text, then the others, both by id.
    """
    tokenizer: Any = loaded.tokenizer
    rows = loaded.checkpoint.vocabulary
    ids = {int(token): name for name, token in tokenizer.get_vocab().items()}
    added, taken = tokenizer.get_added_vocab(), _with_a_role(loaded)
    reserved = sorted(token for token, name in ids.items() if token < rows and token not in taken and is_reserved(name))
    written = tokenizer([ids[token] for token in reserved], add_special_tokens=False)["input_ids"] if reserved else []
    alone = {token for token, yields in zip(reserved, written, strict=True) if list(yields) == [token]}
    named = [UnusedToken(token, ids[token]) for token in reserved if token in alone and ids[token] in added]
    silent = [token for token in reserved if token not in alone]
    spare = [token for token in range(rows) if token not in ids and token not in taken]
    return [*named, *(UnusedToken(token) for token in sorted([*silent, *spare]))]


def _with_a_role(loaded: Tokenized) -> set[int]:
    """Return the tokens that the config, the tokenizer or the chat template have a use for."""
    tokenizer: Any = loaded.tokenizer
    generation = getattr(getattr(loaded, "lm", None), "generation_config", None)
    taken = set(_ids_in(loaded.checkpoint.config))
    taken |= set(_ids_in({} if generation is None else generation.to_dict()))
    roles = [getattr(tokenizer, f"{role}_token_id", None) for role in _ROLES]
    taken |= {token for token in roles if isinstance(token, int)}
    chat = str(getattr(tokenizer, "chat_template", None) or "")
    return taken | {int(token) for name, token in tokenizer.get_added_vocab().items() if name in chat}


def _ids_in(config: Mapping[str, Any]) -> Iterator[int]:
    """Return the tokens that a config names, in its sections too."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _ids_in(value)
        elif str(key).endswith(_OF_A_ROLE):
            yield from (one for one in (value if isinstance(value, list) else [value]) if isinstance(one, int))


def yielded(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> set[int]:
    """Return every token that occurs in some texts."""
    if not texts:
        return set()
    return {token for ids in tokenizer(texts, add_special_tokens=False)["input_ids"] for token in ids}
