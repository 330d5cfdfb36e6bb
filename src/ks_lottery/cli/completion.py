"""The command `completion`: the script by which a shell completes what is typed after `ks-lottery`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ks_lottery.cli.commands import COMMANDS
from ks_lottery.cli.options import ACCEPT_FLAG, flag_of
from ks_lottery.cli.streams import write
from ks_lottery.config.fields import settings_of

if TYPE_CHECKING:
    from ks_lottery.config.fields import Setting
    from ks_lottery.config.service_commands import CompletionSettings

PATHS = {
    "BASE", "CANDIDATE", "DIR", "EMBED", "FILE", "FOLDER", "MODEL", "PARTIAL", "PATCH", "PATH", "REFERENCE", "RUN", "SCAN",
    "TEXT", "TICKETS", "TUNED",
}  # fmt: skip
"""Metavars of settings whose values are files or folders, or may be."""

UNNAMED = {"model.name", "text.train"}
"""Settings without a metavar whose values may be files or folders."""

NOT_PATHS = {"message", "instruction"}
"""Settings that are text, whatever their metavar."""


def run(settings: CompletionSettings) -> int:
    """Run the command and return its exit code."""
    write(f"{script_of(settings.shell).rstrip()}\n")
    return 0


def script_of(shell: str) -> str:
    """Return the script, made by shtab from the table of commands and their settings.

    Parameters
    ----------
    shell
        One of `ks_lottery.config.choices.SHELLS`.
    """
    import shtab

    parser = argparse.ArgumentParser(prog="ks-lottery", allow_abbrev=False, description="")
    parser.add_argument("--version", action="store_true", help="show the version")
    commands = parser.add_subparsers(dest="command")
    for name, command in COMMANDS.items():
        one = commands.add_parser(name, help=command.summary, allow_abbrev=False)
        _add(one, "--config", help="YAML file with settings by name", complete=shtab.FILE)
        one.add_argument("--print-config", action="store_true", help="print the settings as YAML, and stop")
        if command.opens_models:
            one.add_argument(ACCEPT_FLAG, action="store_true", help="accept the model's terms of use")
        for item in settings_of(command.settings):
            _add_setting(one, item, shtab)
    return shtab.complete(parser, shell)


def _add_setting(parser: argparse.ArgumentParser, item: Setting, shtab: Any) -> None:
    about = item.help.partition(". ")[0].removesuffix(".").replace("%", "%%")
    if item.kind is bool and "." not in item.name:
        parser.add_argument(flag_of(item), action="store_true", help=about)
        return
    known: dict[str, Any] = {}
    if item.kind is bool:
        known = {"choices": ("true", "false")}
    elif item.choices:
        known = {"choices": item.choices}
    complete = None
    is_path = item.metavar in PATHS and item.name.rpartition(".")[2] not in NOT_PATHS
    if not known and (is_path or item.writes or item.name in UNNAMED):
        complete = shtab.DIRECTORY if "folder" in item.writes or item.metavar == "DIR" else shtab.FILE
    if item.positional:
        _add(parser, item.name, nargs="*" if item.many else "?", help=about, complete=complete, **known)
    else:
        number = {"nargs": "+"} if item.many and item.count != 1 else {}
        _add(parser, item.flag, help=about, complete=complete, **number, **known)


def _add(parser: argparse.ArgumentParser, *names: str, complete: Any = None, **settings: Any) -> None:
    action: Any = parser.add_argument(*names, **settings)
    if complete is not None:
        action.complete = complete  # where shtab looks for what completes a value
