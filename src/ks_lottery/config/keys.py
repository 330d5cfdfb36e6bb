"""Dotted keys of a config, such as ``train.epochs``: which exist, and in which two configs differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ks_lottery.config.fields import settings_of
from ks_lottery.config.settings import RunConfig
from ks_lottery.config.values import nearest
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
    """Refuse keys that no config has, naming the nearest one that exists.

    Raises
    ------
    UserError
        For the first unknown key.
    """
    known = known_keys(cls)
    sections = {name.partition(".")[0] for name in known}
    for key in keys:
        if key not in known and key not in sections:
            raise UserError(
                f"{where}: unknown config key {shortened(key)}; the nearest known one is '{nearest(key, known)}'"
            )


def difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """Name the first keys in which two configs differ, or return an empty string."""
    old, new = dict(flat(there)), dict(flat(here))
    keys = [key for key in dict.fromkeys([*new, *old]) if old.get(key) != new.get(key)]
    named = [f"{key} is {old.get(key)!r} there and {new.get(key)!r} here" for key in keys[:3]]
    rest = f", and {len(keys) - 3} more" if len(keys) > 3 else ""
    return "; ".join(named) + rest
