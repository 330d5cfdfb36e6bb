"""Values of settings, from a YAML file or from flags: checked, brought to their types, and put back into plain form."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import json
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, get_type_hints

from ks_lottery.config.fields import Setting, ordered_fields, settings_of
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

WANTED = {str: "text", int: "a whole number", float: "a number", bool: "true or false", object: "a value"}


def require(condition: bool, key: str, value: object, wanted: str) -> None:
    """Refuse a value that is out of range.

    Raises
    ------
    UserError
        When `condition` is False.
    """
    if not condition:
        raise UserError(f"{key} is {value!r}, but must be {wanted}")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name that is nearest to another one; one with the same last part comes before all others.

    >>> nearest("alpa", ["alpha", "top_k"])
    'alpha'
    """
    names = list(known)
    same = [k for k in names if k.rsplit(".", maxsplit=1)[-1] == name.rsplit(".", maxsplit=1)[-1]]
    return (same or difflib.get_close_matches(name, names, n=1, cutoff=0.0))[0]


def check_names(call: str, given: Iterable[str], known: Sequence[str]) -> None:
    """Refuse settings that a library call does not have.

    Raises
    ------
    UserError
        For the first unknown name, with the nearest known one.
    """
    for name in given:
        if name not in known:
            raise UserError(f"{call}: unknown setting `{name}`. The nearest one is `{nearest(name, known)}`.")


def checks_names(call: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Decorate a public call so that an unknown keyword gets the error of `check_names`."""

    @functools.wraps(call)
    def checked(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        check_names(call.__name__, kwargs, list(inspect.signature(call).parameters))
        return call(*args, **kwargs)

    return checked


def read_value(item: Setting, raw: Any, name: str) -> Any:
    """Return the value of a setting.

    Parameters
    ----------
    raw
        As YAML reads it; or the words of a flag, which are text.
    name
        What the user calls the setting, for errors.

    Raises
    ------
    UserError
        When the value has another type, or is none of the choices.
    """
    if raw is None or (item.optional and raw == "null"):
        require(item.optional, name, raw, WANTED[item.kind])
        return None
    if item.named:
        return _mapping(item, raw, name)
    if item.count == 1:
        return _one(item, raw, name)
    values = _listed(item, raw)
    require(isinstance(values, list), name, raw, "a list")
    if item.count:
        require(len(values) == item.count, name, raw, f"{item.count} values")
    return tuple(_one(item, value, name) for value in values)


def _listed(item: Setting, raw: Any) -> Any:
    """Return the values of a list: also of one word that is a YAML list, or that has commas between choices."""
    if isinstance(raw, tuple):
        raw = list(raw)
    if isinstance(raw, list) and len(raw) == 1 and isinstance(raw[0], str) and raw[0].startswith("["):
        return [] if raw[0] == "[]" else [part.strip() for part in raw[0].strip("[]").split(",")]
    if item.choices:
        words = [raw] if isinstance(raw, str) else raw
        if isinstance(words, list) and all(isinstance(word, str) for word in words):
            return [name.strip() for word in words for name in word.split(",") if name.strip()]
    return raw


def _mapping(item: Setting, raw: Any, name: str) -> dict[str, Any]:
    if isinstance(raw, list):
        for entry in raw:
            if "=" not in str(entry):
                raise UserError(f"{name} takes NAME=VALUE, not {entry!r}")
        raw = {key: _guessed(item, value) for key, value in (str(entry).split("=", 1) for entry in raw)}
    require(isinstance(raw, dict), name, raw, "names with values")
    return {str(key): _one(item, value, name) for key, value in raw.items()}


def _guessed(item: Setting, text: str) -> Any:
    """Read a number, a truth value or a list as in JSON, where the values have no type; everything else is text."""
    if item.kind is not object:
        return text
    try:
        return json.loads(text.lower() if text.lower() in {"true", "false"} else text)
    except json.JSONDecodeError:
        return text


def _one(item: Setting, raw: Any, name: str) -> Any:
    value = _typed(item.kind, raw)
    if value is None:
        raise UserError(f"{name} is {raw!r}, but must be {WANTED[item.kind]}")
    if item.choices and value not in item.choices:
        offered = ", ".join(item.choices)
        raise UserError(
            f"{name} is {raw!r}, but must be one of {offered}; the nearest is {nearest(value, item.choices)}"
        )
    return value


def _typed(kind: type, raw: Any) -> Any:
    """Return a value as its type, or None where it has another one."""
    if kind is object:
        return raw
    if kind is str:
        return str(raw) if isinstance(raw, str | int | float) and not isinstance(raw, bool) else None
    if kind is bool:
        return raw if isinstance(raw, bool) else {"true": True, "false": False}.get(str(raw).lower())
    if isinstance(raw, bool) or not isinstance(raw, str | int | float) or (kind is int and isinstance(raw, float)):
        return None
    try:
        return kind(raw)
    except ValueError:
        return None


def build(cls: type, values: Mapping[str, Any]) -> Any:
    """Return a settings object from values by dotted name; what is not given has its default."""
    hints = get_type_hints(cls)
    given: dict[str, Any] = {}
    for item in ordered_fields(cls):
        kind: Any = hints[item.name]
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            begin = f"{item.name}."
            inner = {name.removeprefix(begin): value for name, value in values.items() if name.startswith(begin)}
            given[item.name] = build(kind, inner)
        elif item.name in values:
            given[item.name] = values[item.name]
    return cls(**given)


def values_of(settings: Any) -> dict[str, Any]:
    """Return the values of a settings object by dotted name."""
    values: dict[str, Any] = {}
    for item in settings_of(type(settings)):
        value = settings
        for part in item.name.split("."):
            value = getattr(value, part)
        values[item.name] = value
    return values


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values by dotted name as YAML writes them: sections as mappings, tuples as lists.

    >>> nested({"seed": 0, "train.epochs": 2.0, "certify.alphas": (0.05, 1.0)})
    {'seed': 0, 'train': {'epochs': 2.0}, 'certify': {'alphas': [0.05, 1.0]}}
    """
    content: dict[str, Any] = {}
    for name, value in values.items():
        *sections, last = name.split(".")
        place = content
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = list(value) if isinstance(value, tuple) else value
    return content


def shared(settings: Any, cls: type) -> dict[str, Any]:
    """Return the values of those fields of `settings` that `cls` has too, for keywords."""
    names = {item.name for item in dataclasses.fields(cls)} & {item.name for item in dataclasses.fields(settings)}
    return {name: getattr(settings, name) for name in names}
