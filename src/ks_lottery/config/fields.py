"""Reads the settings of a dataclass: name, type, default, the text under the field, and how a flag shows it."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import sys
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from ks_lottery.config.ranges import Range


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting of a dataclass.

    Parameters
    ----------
    name
        Name of the field; of a section's field, dotted (``train.epochs``).
    kind
        Type of one value: ``str``, ``int``, ``float``, ``bool``, or ``object`` for whatever YAML says.
    count
        1 for one value, 0 for any number of values, n for exactly n values.
    named
        Whether it is a mapping of names to values.
    optional
        Whether None is a value.
    default
        The default; `dataclasses.MISSING` for a required setting.
    help
        The text under the field.
    choices
        Values that exist; empty for no such list.
    meanings
        What each choice means, where that is said.
    metavar
        What stands for the value in the help.
    group
        Heading of the setting in the help.
    positional
        Whether the command line takes it without a flag.
    one_of
        Settings with the same text here exclude each other.
    parameter
        Name of the same setting in the library, where it has another one.
    within
        Range of a number, or of each of several; None for what is no number.
    writes
        What the command writes there: ``file``, ``new folder``, or ``folder`` for one that an earlier call may have begun;
        otherwise empty.
    may_be_empty
        Whether an empty text is a value.
    off_help
        What the flag that switches a setting off does, where the setting is on by default.
    """

    name: str
    kind: type
    count: int
    named: bool
    optional: bool
    default: Any
    help: str
    choices: tuple[str, ...]
    meanings: Mapping[str, str]
    metavar: str
    group: str
    positional: bool
    one_of: str
    parameter: str
    within: Range | None
    writes: str
    may_be_empty: bool
    off_help: str

    @property
    def required(self) -> bool:
        """Whether a value has to be given."""
        return self.default is MISSING

    @property
    def many(self) -> bool:
        """Whether the setting takes several values."""
        return self.named or self.count != 1

    @property
    def flag(self) -> str:
        """The flag that gives the setting a value."""
        return "--" + self.name.replace("_", "-")

    @property
    def off(self) -> str:
        """The flag that switches the setting off; for a setting of type ``bool``."""
        return "--no-" + self.name.replace("_", "-")


def setting(
    default: Any = MISSING,
    *,
    choices: tuple[str, ...] | Mapping[str, str] = (),
    metavar: str = "",
    group: str = "",
    positional: bool = False,
    first: bool = False,
    one_of: str = "",
    parameter: str = "",
    within: Range | None = None,
    writes: Literal["", "file", "folder", "new folder"] = "",
    may_be_empty: bool = False,
    off_help: str = "",
) -> Any:
    """Return a field of a settings class, for the right side of its annotation; see `Setting`.

    Parameters
    ----------
    default
        Without it the setting is required. An empty mapping is made anew for each object.
    choices
        Values that exist, or what each one means.
    first
        List the setting before those that the class inherits.
    """
    about = {
        "choices": tuple(choices),
        "meanings": choices if isinstance(choices, Mapping) else {},
        "metavar": metavar,
        "group": group,
        "positional": positional,
        "first": first,
        "one_of": one_of,
        "parameter": parameter,
        "within": within,
        "writes": writes,
        "may_be_empty": may_be_empty,
        "off_help": off_help,
    }
    if isinstance(default, dict):
        return dataclasses.field(default_factory=dict, metadata=about)
    return dataclasses.field(default=default, metadata=about)


@cache
def settings_of(cls: type) -> tuple[Setting, ...]:
    """Return the settings of a dataclass, those of its sections (fields that are dataclasses) with dotted names."""
    hints, texts = get_type_hints(cls), _texts(cls)
    listed: list[Setting] = []
    for item in ordered_fields(cls):
        kind = hints[item.name]
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            listed += [
                dataclasses.replace(inner, name=f"{item.name}.{inner.name}", group=item.name, positional=False)
                for inner in settings_of(kind)
            ]
        else:
            listed.append(_setting(cls, item, kind, texts.get(item.name, "")))
    return tuple(listed)


def ordered_fields(cls: Any) -> list[dataclasses.Field[Any]]:
    """Return the fields of a settings class as they are listed and saved: those marked `first` before the others."""
    return sorted(dataclasses.fields(cls), key=lambda item: not item.metadata.get("first", False))


def default_of(item: dataclasses.Field[Any]) -> Any:
    """Return the default of a field, or `dataclasses.MISSING`."""
    if item.default is MISSING and item.default_factory is not MISSING:
        return item.default_factory()
    return item.default


def _setting(cls: type, item: dataclasses.Field[Any], hint: Any, text: str) -> Setting:
    about = item.metadata
    options = get_args(hint) if get_origin(hint) in {Union, types.UnionType} else (hint,)
    kinds = [kind for kind in options if kind is not types.NoneType]
    kind, count, named, choices = kinds[0], 1, False, about.get("choices", ())
    if get_origin(kind) is tuple and get_args(kind)[-1] is not Ellipsis:
        kind, count = get_args(kind)[0], len(get_args(kind))
    elif get_origin(kind) in {tuple, Sequence}:
        kind, count = get_args(kind)[0], 0
    elif get_origin(kind) is Mapping:
        kind, named = get_args(kind)[1], True
    if get_origin(kind) is Literal:
        kind, choices = str, get_args(kind)
    return Setting(
        name=item.name,
        kind=object if kind is Any else kind,
        count=count,
        named=named,
        optional=len(kinds) < len(options),
        default=default_of(item),
        help=text,
        choices=choices,
        meanings=about.get("meanings", {}),
        metavar=about.get("metavar", ""),
        group=about.get("group", "") or _group(cls, item.name),
        positional=about.get("positional", False),
        one_of=about.get("one_of", ""),
        parameter=about.get("parameter", ""),
        within=about.get("within"),
        writes=about.get("writes", ""),
        may_be_empty=about.get("may_be_empty", False),
        off_help=about.get("off_help", ""),
    )


def _group(cls: type, name: str) -> str:
    """Return the heading of the class that declares a field (its ``GROUP``), or an empty string."""
    owner = next(c for c in cls.__mro__ if name in vars(c).get("__annotations__", {}))
    return vars(owner).get("GROUP", "")


def _texts(cls: type) -> dict[str, str]:
    """Return the text under each field, where the source is there to be read."""
    texts: dict[str, str] = {}
    for owner in reversed(cls.__mro__):
        if dataclasses.is_dataclass(owner):
            texts |= _module_texts(owner.__module__).get(owner.__name__, {})
    return texts


@cache
def _module_texts(module: str) -> dict[str, dict[str, str]]:
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except OSError:
        return {}
    return {node.name: _class_texts(node) for node in tree.body if isinstance(node, ast.ClassDef)}


def _class_texts(node: ast.ClassDef) -> dict[str, str]:
    texts: dict[str, str] = {}
    for statement, after in zip(node.body, node.body[1:], strict=False):
        if not (isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)):
            continue
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
            texts[statement.target.id] = " ".join(after.value.value.split())
    return texts
