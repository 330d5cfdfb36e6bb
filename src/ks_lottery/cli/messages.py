"""Errors of the library in the words of the command line: parameters become flags."""

from __future__ import annotations

import re
from collections import Counter

from ks_lottery.cli.commands import COMMANDS
from ks_lottery.cli.options import flag_of
from ks_lottery.config.fields import settings_of


def in_flags(message: str, command: str | None) -> str:
    """Return a message whose parameters in backticks are flags of the command, where it has them; the backticks are dropped.

    >>> in_flags("give `top_k` or `tokens`", "select")
    'give --top-k or tokens'
    >>> in_flags("`clean=False` looks at all of it", "inspect")
    '--no-clean looks at all of it'
    """
    listed = settings_of(COMMANDS[command].settings) if command in COMMANDS else ()
    last = Counter(item.name.rsplit(".", maxsplit=1)[-1] for item in listed)  # of `run`, whose names have sections
    flags: dict[str, str] = {}
    for item in listed:
        shown, short = item.metavar if item.positional else flag_of(item), item.name.rsplit(".", maxsplit=1)[-1]
        names = (item.name, item.parameter, short if last[short] == 1 else "")
        flags |= {name: shown for name in names if name and name not in flags}
        if item.kind is bool:
            flags |= {f"{item.name}=True": item.flag, f"{item.name}=False": item.off}

    def shown_as(match: re.Match[str]) -> str:
        whole, (name, _, value) = match[1], match[1].partition("=")
        if whole in flags:
            return flags[whole]
        if name not in flags and not value:  # a setting of a section, which the command has without it
            name = name.rpartition(".")[2]
        return f"{flags[name]} {value}".strip() if name in flags else whole

    return re.sub(r"`([A-Za-z_.]+(?:=[^`\s]+)?)`", shown_as, message)
