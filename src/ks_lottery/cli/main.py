"""The command line: the command that was typed, and exit codes."""

from __future__ import annotations

import logging
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING

from ks_lottery.cli.commands import COMMANDS
from ks_lottery.cli.messages import in_flags
from ks_lottery.cli.options import read_settings
from ks_lottery.cli.output import check_output
from ks_lottery.config.values import nearest
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

EXAMPLES = ("demo", "run")
"""Commands whose examples the help of the program shows."""

WAITING = {"GOMP_SPINCOUNT": "3000"}
"""How the threads of torch wait for each other: they spin shortly, then sleep. By default they spin long, and on a busy machine
that takes time from the thread that they wait for. Sleeping at once costs a fifth on an idle one (benchmarks/busy.py)."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    0, 1 for a check that failed, 2 for a mistake that the user can mend, 130 after Ctrl-C.

    Parameters
    ----------
    argv
        Arguments without the program's name; by default those of the process.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Read when torch is loaded, here and in every process that this one starts.
    if not {"OMP_WAIT_POLICY", *WAITING} & os.environ.keys():
        os.environ.update(WAITING)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # PEFT imports it where it is installed, and it warns
    try:
        return _run(given)
    except UserError as error:
        sys.stderr.write(f"ks-lottery: {in_flags(str(error), given[0] if given else None)}\n")
        return 2
    except KeyboardInterrupt:
        resumes = given[0] in COMMANDS and COMMANDS[given[0]].resumes
        more = "; the same command resumes from what is done" if resumes else ""
        sys.stderr.write(f"ks-lottery: stopped{more}\n")
        return 130
    except BrokenPipeError:
        return 0


def _run(given: list[str]) -> int:
    if not given:
        raise UserError("a command is missing (see ks-lottery --help)")
    command, *words = given
    if command in {"-h", "--help", "--version"}:
        sys.stdout.write(_version() if command == "--version" else program_help())
        return 0
    if command not in COMMANDS:
        known = [*COMMANDS, "--help", "--version"]
        raise UserError(
            f"{command!r} is no command; the nearest one is {nearest(command, known)} (see ks-lottery --help)"
        )
    settings = read_settings(command, words)
    if settings is None:
        return 0
    check_output(command, settings)
    return int(import_module(f"ks_lottery.cli.{command}").run(settings))


def _version() -> str:
    from importlib.metadata import version

    return f"ks-lottery {version('ks-lottery')}\n"


def program_help() -> str:
    """Return the help of the program: the commands by task, and two examples."""
    lines = [
        "usage: ks-lottery COMMAND ...",
        "",
        "Find, train, ship and certify the few embedding rows that fine-tuning a language model really moves.",
    ]
    for task in dict.fromkeys(command.task for command in COMMANDS.values()):
        lines += ["", f"{task}:"]
        lines += [f"  {name:<10} {command.summary}" for name, command in COMMANDS.items() if command.task == task]
    lines += [
        "",
        "ks-lottery COMMAND --help shows the flags of a command; ks-lottery --version the version.",
        "",
        "examples:",
    ]
    lines += [f"  ks-lottery {COMMANDS[name].example}" for name in EXAMPLES]
    return "\n".join(lines) + "\n"
