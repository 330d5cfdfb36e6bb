"""Flags and a YAML file, which have the same names, to the settings of a command."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import textwrap
from dataclasses import MISSING
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_lottery.cli.commands import COMMANDS
from ks_lottery.cli.config_file import file_values
from ks_lottery.cli.streams import write
from ks_lottery.cli.word_order import flags_and_texts, swallowed
from ks_lottery.config.fields import settings_of
from ks_lottery.config.values import build, did_you_mean, nested, read_value, values_of
from ks_lottery.errors import UserError, shortened

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ks_lottery.config.fields import Setting

LONGEST_FLAG = 100
"""Characters of a mistyped flag that an error shows."""


ACCEPT_FLAG = "--accept-license"
"""Flag of every command that may open a model. It is no setting: what comes out does not depend on it."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> None:  # type: ignore[override]
        """Raise the error as the user's."""
        raise UserError(f"{message.removeprefix('argument ')} (see {self.prog} --help)")


def help_width() -> int:
    """Return the width that help is wrapped at: that of the terminal, as for argparse."""
    return max(40, shutil.get_terminal_size().columns - 2)


def build_parser(name: str, *, positional: bool = True) -> Parser:
    """Return the parser of a command.

    Parameters
    ----------
    positional
        Whether it has the arguments without a flag, for the help. `read_settings` takes these from what is left over, since a
        file may give them.
    """
    command = COMMANDS[name]
    listed = settings_of(command.settings)
    needed = [_placeholder(item) for item in listed if item.positional]
    needed += [f"{item.flag} {_metavar(item)}" for item in listed if item.required and not item.positional]
    needed = [command.usage] if command.usage else needed
    parser = Parser(
        prog=f"ks-lottery {name}",
        usage=" ".join([f"ks-lottery {name}", *(["[config.yaml]"] if command.file_first else []), *needed, "[flags]"]),
        description=textwrap.fill(f"{command.summary[0].upper()}{command.summary[1:]}.", help_width()),
        epilog="\n\n".join(
            [
                *([textwrap.fill(command.notes, help_width())] if command.notes else []),
                f"example:\n  ks-lottery {command.example}",
            ]
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("-h", "--help", action="help", help="Show this help, and stop")
    parser.add_argument("--config", metavar="FILE", help="YAML file with settings by name; flags override it")
    parser.add_argument("--print-config", action="store_true", help="Print the settings as YAML, and stop")
    if command.opens_models:
        parser.add_argument(
            ACCEPT_FLAG, action="store_true", help="Accept the model's terms of use, once, where it has some"
        )
    groups: dict[str, Any] = {"": parser}
    for item in listed:
        if item.positional:
            if positional:
                parser.add_argument(item.name, nargs="*" if item.many else "?", metavar=item.metavar, help=_help(item))
            continue
        if item.group not in groups:
            groups[item.group] = parser.add_argument_group(item.group)
        _add(groups[item.group], item)
    return parser


def _placeholder(item: Setting) -> str:
    """Return what stands in the usage line for words without a flag."""
    name = f"{item.metavar} ..." if item.many else item.metavar
    return name if item.required else f"[{name}]"


def _add(group: Any, item: Setting) -> None:
    if item.kind is bool and "." in item.name:
        group.add_argument(item.flag, dest=item.name, nargs="?", const="true", metavar="true|false", help=_help(item))
    elif item.kind is bool:
        for flag, value in ((item.flag, "true"), (item.off, "false")):
            shown = _help(item) if flag == flag_of(item) else argparse.SUPPRESS
            group.add_argument(flag, dest=item.name, action="store_const", const=value, help=shown)
    else:
        number = {"nargs": item.count if item.count > 1 else "+"} if item.many else {}
        metavar = tuple(item.metavar.split()) if item.count > 1 else _metavar(item)
        group.add_argument(item.flag, dest=item.name, metavar=metavar, help=_help(item), **number)


def flag_of(item: Setting) -> str:
    """Return the flag of a setting that the help shows: for one that is on, the flag that switches it off."""
    return item.off if item.kind is bool and item.default is True and "." not in item.name else item.flag


def _metavar(item: Setting) -> str:
    if item.metavar or not item.choices:
        return item.metavar or {int: "N", float: "X"}.get(item.kind, "TEXT")
    return f"{{{','.join(item.choices)}}}"


def _help(item: Setting) -> str:
    text = item.help if item.help.endswith("...") else item.help.removesuffix(".")
    if flag_of(item) != item.flag:
        return item.off_help.replace("%", "%%")
    if item.meanings:
        text += f". {'; '.join(f'{name}: {meaning}' for name, meaning in item.meanings.items())}"
    if item.within is not None and not item.within.is_obvious:
        text += f" ({item.within.wanted()})"
    default = " ".join(map(str, item.default)) if isinstance(item.default, tuple) else item.default
    empty = default is None or default is False or default in ("", {}, "default")  # 0 is a default worth to be shown
    if not item.required and not empty:
        text += f" (default: {default})"
    return text.replace("%", "%%")


def read_settings(name: str, words: Sequence[str]) -> Any:
    """Read flags, and the file that ``--config`` names, into the settings of a command.

    Flags override the file, the file overrides the preset, and the preset overrides the defaults. Dashes and underscores in
    flags are alike.

    Returns
    -------
    object
        The settings; None when the help or the settings were printed, which is all that was asked for.

    Raises
    ------
    UserError
        For an unknown name or value (naming one that is near), a value of another type or out of range, a setting that is
        missing, or a file that cannot be read.
    """
    command = COMMANDS[name]
    words, rest = _split(words)
    if {"-h", "--help"} & set(words):
        write(build_parser(name).format_help())  # print_help hides a stream that cannot be written
        return None
    listed = {item.name: item for item in settings_of(command.settings)}
    parser = build_parser(name, positional=False)
    for word in words:
        flag = word.partition("=")[0]
        if flag in command.renamed:
            raise UserError(f"{flag} is {command.renamed[flag]} now: ks-lottery {name} {command.renamed[flag]} ...")
    flagged, texts = flags_and_texts(words, list(listed.values()), file_first=command.file_first)
    parsed, others = parser.parse_known_args(flagged)
    given = vars(parsed)
    flags = {item: given[item] for item in listed if item in given}
    flags |= _positional(name, [*others, *texts, *rest], given, list(listed.values()))
    if given.get("config") == "":
        raise UserError("--config is empty: give the name of a file, or leave it out")
    values = {} if given.get("config") is None else file_values(Path(given["config"]), listed, command.settings)
    for group in {listed[flag].one_of for flag in flags} - {""}:
        values = {key: value for key, value in values.items() if listed[key].one_of != group}
    for item, raw in flags.items():
        values[item] = read_value(listed[item], raw, _called(listed[item]))
    _check_one_of(list(listed.values()), values)
    if hasattr(command.settings, "preset_values"):
        values = {**command.settings.preset_values(values), **values}
    _check_places(listed, values)
    missing = [_called(item) for item in listed.values() if item.required and item.name not in values]
    wants_print = given.get("print_config", False)
    if missing and not wants_print:
        near = swallowed(words, list(listed.values()), missing[0])
        raise UserError(f"{name} needs {', '.join(missing)}{near} (see ks-lottery {name} --help)")
    settings = None if missing else build(command.settings, values)
    if wants_print:
        _print({key: values.get(key, item.default) for key, item in listed.items()} if missing else values_of(settings))
        return None
    return settings


def accepts_license(words: Sequence[str]) -> bool:
    """Say whether the user accepts the terms of use of the models that a command opens."""
    return ACCEPT_FLAG in _split(words)[0]


def _split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the words before ``--``, flags with dashes alone, and those behind it."""
    end = list(words).index("--") if "--" in words else len(words)
    return [_dashed(word) for word in words[:end]], list(words[end + 1 :])


def _dashed(word: str) -> str:
    name, equals, value = word.partition("=")
    return f"{name.replace('_', '-')}{equals}{value}" if re.fullmatch(r"--[A-Za-z_.-]+", name) else word


def _called(item: Setting) -> str:
    return item.metavar if item.positional else flag_of(item)


def _positional(name: str, words: list[str], given: dict[str, Any], listed: Sequence[Setting]) -> dict[str, Any]:
    """Return the settings that words without a flag give; the file of `run` is put into `given`."""
    command = COMMANDS[name]
    known = [flag for item in listed if not item.positional for flag in (item.flag, flag_of(item))]
    for word in words:
        if word.startswith("-") and len(word) > 1 and " " not in word:
            flag = word.partition("=")[0][:LONGEST_FLAG]
            near = did_you_mean(flag, [*known, "--config", "--print-config", ACCEPT_FLAG, "--help"])
            raise UserError(f"{name} has no flag {flag}{near} (see ks-lottery {name} --help)")
    if command.file_first and words and "config" not in given:
        given["config"] = words.pop(0)
    values: dict[str, Any] = {}
    for item in [item for item in listed if item.positional]:
        if words:
            values[item.name] = words[:] if item.many else words[0]
            del words[: len(words) if item.many else 1]
    if words and "argument" in command.renamed:
        flag = command.renamed["argument"]
        raise UserError(f"{words[0]} needs a flag: give it as {flag} {words[0]} (see ks-lottery {name} --help)")
    if words:
        raise UserError(f"unrecognized argument {shortened(words[0])} (see ks-lottery {name} --help)")
    return values


def _check_one_of(listed: Sequence[Setting], values: Mapping[str, Any]) -> None:
    first: dict[str, Setting] = {}
    for item in listed:
        if item.one_of and values.get(item.name, item.default) != item.default:
            other = first.setdefault(item.one_of, item)
            if other is not item:
                raise UserError(f"{item.flag} and {other.flag} exclude each other: give one of them")


def _check_places(listed: Mapping[str, Setting], values: Mapping[str, Any]) -> None:
    """Refuse a file to write that is a folder, before anything is computed for it."""
    for key, value in values.items():
        if listed[key].writes == "file" and value is not None and os.path.isdir(value):  # noqa: PTH112 (never raises)
            raise UserError(f"{_called(listed[key])} is {shortened(value)}, which is a folder: give the name of a file")


def _print(values: Mapping[str, Any]) -> None:
    import yaml

    plain = {key: None if value is MISSING else value for key, value in values.items()}
    unicode = "utf" in (sys.stdout.encoding or "").lower()  # otherwise as escapes in quotes, which YAML reads
    write(yaml.safe_dump(nested(plain), sort_keys=False, allow_unicode=unicode))
