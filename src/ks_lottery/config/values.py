"""Values of settings, from a YAML file or from flags: checked, brought to their types, and put back into plain form."""

from __future__ import annotations

import dataclasses
import datetime as dt
import difflib
import functools
import inspect
import json
import math
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, get_type_hints

from ks_lottery.config.fields import Setting, ordered_fields, settings_of
from ks_lottery.config.ranges import check_number
from ks_lottery.errors import UserError, shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

LONGEST_NAME = 100
"""Characters of a name that is compared with those that exist, which takes the square of it."""

LONGEST_PART = 255
"""Bytes of the name of a file or folder that file systems take."""

WANTED = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    object: "a finite number, text, true, false, or a list or names of such",
}


def require(condition: bool, key: str, value: object, wanted: str) -> None:
    """Refuse a value that is out of range.

    Raises
    ------
    UserError
        When `condition` is False.
    """
    if not condition:
        raise UserError(f"{key} is {shortened(value)}, but must be {wanted}")


def did_you_mean(name: str, known: Iterable[str], *, mark: str = "") -> str:
    """Return the end of a sentence on an unknown name: the known name that is near to it; empty where none is near.

    A name with the same last part comes before all others, and then one with the same letters.

    Parameters
    ----------
    mark
        What stands before and after the name.

    Examples
    --------
    >>> did_you_mean("alpa", ["alpha", "top_k"]), did_you_mean("foo", ["demo", "run"])
    ('; did you mean alpha?', '')
    """
    names, name = list(known), name[:LONGEST_NAME]
    same = [k for k in names if k.rsplit(".", maxsplit=1)[-1] == name.rsplit(".", maxsplit=1)[-1]]
    near = same or difflib.get_close_matches(name, names, n=3)
    near.sort(key=lambda known: sorted(known) != sorted(name))  # two letters exchanged: the same letters
    return f"; did you mean {mark}{near[0]}{mark}?" if near else ""


def check_names(call: str, given: Iterable[str], known: Sequence[str]) -> None:
    """Refuse settings that a library call does not have.

    Raises
    ------
    UserError
        For the first unknown name, with the known one that is near to it.
    """
    for name in given:
        if name not in known:
            raise UserError(f"{call}: unknown setting `{name}`{did_you_mean(name, known, mark='`')}")


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
        When the value has another type, is out of range, or is none of the choices.
    """
    if raw is None or (item.optional and raw == "null"):
        if not item.optional:
            raise UserError(f"{name} is empty (null), but must be {WANTED[item.kind]}: leave it out for the default")
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
        inner = raw[0].strip().removeprefix("[").removesuffix("]")
        return [part.strip() for part in inner.split(",")] if inner.strip() else []
    if item.choices:
        words = [raw] if isinstance(raw, str) else raw
        if isinstance(words, list) and all(isinstance(word, str) for word in words):
            return [name.strip() for word in words for name in word.split(",") if name.strip()]
    return raw


def _mapping(item: Setting, raw: Any, name: str) -> dict[str, Any]:
    if isinstance(raw, list):
        for entry in raw:
            if "=" not in str(entry):
                raise UserError(f"{name} takes NAME=VALUE, not {shortened(entry)}")
        raw = {key: _guessed(item, value) for key, value in (str(entry).split("=", 1) for entry in raw)}
    require(isinstance(raw, dict), name, raw, "names with values")
    for key in raw:
        require(isinstance(key, str) and key != "", name, key, "names with values, and a name text")
    return {key: _one(item, value, f"{name}: {key}") for key, value in raw.items()}


def _guessed(item: Setting, text: str) -> Any:
    """Read a number, a truth value or a list as in JSON, where the values have no type; everything else is text."""
    if item.kind is not object:
        return text
    try:
        return json.loads(text.lower() if text.lower() in {"true", "false"} else text)
    except (ValueError, RecursionError):
        return text


def _one(item: Setting, raw: Any, name: str) -> Any:
    value = _typed(item.kind, raw)
    if value is None:
        more = ": put it in quotes" if item.kind is str and isinstance(raw, bool | dt.date) else ""
        raise UserError(f"{name} is {shortened(raw)}, but must be {WANTED[item.kind]}{more}")
    if isinstance(value, str):
        check_text(name, value, item)
    if item.within is not None:
        check_number(name, value, item.within)
    if item.choices and value not in item.choices:
        offered = ", ".join(item.choices)
        near = did_you_mean(value, item.choices)
        raise UserError(f"{name} is {shortened(raw)}, but must be one of {offered}{near}")
    return value


def _typed(kind: type, raw: Any) -> Any:
    """Return a value as its type, or None where it has another one."""
    if kind is object:
        return raw if _is_plain(raw) else None
    if kind is str:
        return _text(raw)
    if kind is bool:
        return raw if isinstance(raw, bool) else {"true": True, "false": False}.get(str(raw).lower())
    return _number(kind, raw)


def _number(kind: type, raw: Any) -> int | float | None:
    if isinstance(raw, bool) or not isinstance(raw, str | int | float) or (kind is int and isinstance(raw, float)):
        return None
    try:
        return kind(raw)
    except ValueError:
        return None
    except OverflowError:  # a whole number beyond all floats
        return math.inf


def _text(raw: Any) -> str | None:
    """Return text, or a number as text."""
    if isinstance(raw, bool) or not isinstance(raw, str | int | float):
        return None
    try:
        return str(raw)
    except ValueError:  # a number of thousands of digits
        return None


def _is_plain(value: Any, depth: int = 10) -> bool:
    """Say whether a value is one of JSON: only such a value can be saved with what it made."""
    if isinstance(value, dict):
        return depth > 0 and all(isinstance(key, str) and _is_plain(inner, depth - 1) for key, inner in value.items())
    if isinstance(value, list | tuple):
        return depth > 0 and all(_is_plain(inner, depth - 1) for inner in value)
    if isinstance(value, int):
        return value.bit_length() <= 63
    return value is None or isinstance(value, str) or (isinstance(value, float) and math.isfinite(value))


def check_text(name: str, value: str, item: Setting) -> None:
    """Refuse text with a NUL character, and the names of places that nothing can be written to.

    Raises
    ------
    UserError
        For such a text.
    """
    if "\0" in value:
        raise UserError(f"{name} is {shortened(value)}, but must be text without NUL characters")
    if not value and not item.may_be_empty:
        raise UserError(f"{name} is empty: give a value, or leave it out")
    if not item.writes:
        return
    path = PurePath(value)
    if any(len(part.encode("utf-8", "surrogatepass")) > LONGEST_PART for part in path.parts):
        raise UserError(
            f"{name} is {shortened(value)}, but a name has at most {LONGEST_PART} bytes: give a shorter one"
        )
    is_file = item.writes == "file" and not value.endswith("/") and path.name not in {"", ".."}
    is_new = item.writes == "new folder" and path.name not in {"", ".."}
    if not (is_file or is_new or (item.writes == "folder" and value.strip("/"))):
        raise UserError(f"{name} is {shortened(value)}, but must be the name of a {item.writes} to write")


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
