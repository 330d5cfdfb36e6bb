"""Words without a flag may be anywhere: a flag that takes several values ends before a word that is none of its values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ks_lottery.config.values import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ks_lottery.config.fields import Setting


def flags_and_texts(
    words: Sequence[str], listed: Sequence[Setting], *, file_first: bool = False
) -> tuple[list[str], list[str]]:
    """Return the flags, each with its values, and the words without a flag, both in their order.

    A flag of several numbers, choices or ``KEY=VALUE`` ends before the first word that cannot be one, and a flag that is true
    or false does not take the YAML file behind it. A flag of several texts takes all that follow: what is meant cannot be
    told.

    Parameters
    ----------
    words
        Words of a command before ``--``.
    file_first
        Whether the first word without a flag is a YAML file.
    """
    known = {item.flag: item for item in listed if not item.positional}
    flags, texts = list[str](), list[str]()
    place = 0
    while place < len(words):
        word = words[place]
        place += 1
        if not _is_flag(word):
            texts.append(word)
            continue
        behind: list[str] = []
        while place + len(behind) < len(words) and not _is_flag(words[place + len(behind)]):
            behind.append(words[place + len(behind)])
        item = known.get(word)
        switched = item is not None and item.kind is bool and "." in item.name
        if switched and file_first and behind and behind[0].endswith((".yaml", ".yml")):
            flags.append(f"{word}=true")
            continue
        taken = _taken(item, behind) if item is not None else int(word == "--config")
        flags += [word, *behind[:taken]]
        place += min(taken, len(behind))
    return flags, texts


def _is_flag(word: str) -> bool:
    return word.startswith("-") and len(word) > 1 and " " not in word and not _is_number(word)


def _taken(item: Setting, behind: Sequence[str]) -> int:
    """Return how many of the words behind a flag are its values."""
    if item.kind is bool:
        return int("." in item.name)
    if item.count and not item.named:
        return item.count
    fitting = min(1, len(behind))
    while fitting < len(behind) and _may_be(item, behind[fitting]):
        fitting += 1
    return fitting


def _may_be(item: Setting, word: str) -> bool:
    """Say whether a word may be a value of a flag that takes several; one that is near to a choice may be a slip."""
    if item.named:
        return "=" in word
    if item.choices:
        return all(name in item.choices or did_you_mean(name, item.choices) for name in word.split(",") if name)
    if item.kind in {int, float}:
        return _is_number(word) or word.startswith("[") or word.endswith(("]", ","))
    return True


def _is_number(word: str) -> bool:
    try:
        float(word.replace(",", ""))
    except ValueError:
        return False
    return True


def swallowed(words: Sequence[str], listed: Sequence[Setting], missing: str) -> str:
    """Return the end of a sentence on a missing word: the flag of several texts that may have taken it; else nothing."""
    for item in listed:
        if item.flag in words and item.count == 0 and item.kind is str and not item.choices and not item.positional:
            behind = words[list(words).index(item.flag) + 1 :]
            values = [
                word for place, word in enumerate(behind) if not any(_is_flag(each) for each in behind[: place + 1])
            ]
            if len(values) > 1:
                return f"; {item.flag} takes every word behind it: give {missing} before it"
    return ""
