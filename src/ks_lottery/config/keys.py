"""Dotted keys of a config, such as ``train.epochs``: which exist, and in which two configs differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ks_lottery.config.fields import settings_of
from ks_lottery.config.settings import RunConfig
from ks_lottery.config.values import did_you_mean
from ks_lottery.errors import UserError, shortened

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


def flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted keys and values of a nested mapping."""
    for key, value in content.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def known_keys(cls: type = RunConfig) -> list[str]:
    """Return every dotted key of a settings class."""
    return [item.name for item in settings_of(cls)]


def check_keys(keys: Iterable[str], where: str, cls: type = RunConfig) -> None:
    """Refuse keys that no config has, naming one that is near.

    Raises
    ------
    UserError
        For the first unknown key.
    """
    known = known_keys(cls)
    sections = {name.partition(".")[0] for name in known}
    for key in keys:
        if key not in known and key not in sections:
            raise UserError(f"{where}: unknown config key {shortened(key)}{did_you_mean(key, [*known, *sections])}")


def difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """Name the first keys in which two configs differ, or return an empty string."""
    old, new = dict(flat(there)), dict(flat(here))
    keys = [key for key in dict.fromkeys([*new, *old]) if old.get(key) != new.get(key)]
    named = [changed(key, old, new) for key in keys[:3]]
    rest = f", and {len(keys) - 3} more" if len(keys) > 3 else ""
    return "; ".join(named) + rest


def changed(key: str, there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """Return the value of a key in two places.

    >>> changed("max_train", {"max_train": 64}, {"max_train": None})
    'max_train: 64 there, not set here'
    """
    old, new = ("not set" if values.get(key) is None else shortened(values[key]) for values in (there, here))
    return f"{key}: {old} there, {new} here"
