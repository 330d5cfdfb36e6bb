"""Dotted keys of a run's config, such as ``train.epochs``: which exist, and in which two configs differ."""

from __future__ import annotations

import dataclasses
import difflib
from typing import TYPE_CHECKING, Any

from ks_lottery.config.settings import RunConfig, as_dict
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted keys and values of a nested mapping."""
    for key, value in content.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def known_keys() -> list[str]:
    """Return every dotted key of a run's config."""
    return [key for key, _ in flat(as_dict(RunConfig()))]


def check_keys(keys: list[str], where: str) -> None:
    """Refuse keys that no config has, naming the nearest one that exists.

    Raises
    ------
    UserError
        For the first unknown key.
    """
    known = known_keys()
    sections = [f.name for f in dataclasses.fields(RunConfig)]
    for key in keys:
        if key in known or key in sections:
            continue
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
        tail = key.rsplit(".", maxsplit=1)[-1]
        near = [k for k in known if k.rsplit(".", maxsplit=1)[-1] == tail] or near
        raise UserError(f"{where}: unknown config key '{key}'; the nearest known one is '{near[0]}'")


def difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """Name the first keys in which two configs differ, or return an empty string."""
    old, new = dict(flat(there)), dict(flat(here))
    keys = [key for key in dict.fromkeys([*new, *old]) if old.get(key) != new.get(key)]
    named = [f"{key} is {old.get(key)!r} there and {new.get(key)!r} here" for key in keys[:3]]
    rest = f", and {len(keys) - 3} more" if len(keys) > 3 else ""
    return "; ".join(named) + rest
