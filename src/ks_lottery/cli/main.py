"""The command line: the command that was typed, and exit codes."""

from __future__ import annotations

import logging
import os
import sys
import textwrap
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ks_lottery.cli.boundary import problem_of, sentence_of
from ks_lottery.cli.commands import COMMANDS
from ks_lottery.cli.messages import in_flags
from ks_lottery.cli.options import accepts_license, help_width, read_settings
from ks_lottery.cli.output import check_output, is_stream
from ks_lottery.cli.signals import Stop
from ks_lottery.cli.streams import complain, output_error, show_traceback, write
from ks_lottery.config.values import did_you_mean
from ks_lottery.errors import UserError, shortened

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

EXAMPLES = ("demo", "run")
"""Commands whose examples the help of the program shows."""

WAITING = {"GOMP_SPINCOUNT": "3000"}
"""How the threads of torch wait for each other: they spin shortly, then sleep. By default they spin long, and on a busy machine
that takes time from the thread that they wait for. Sleeping at once costs a fifth on an idle one (benchmarks/busy.py)."""


DEBUG = "KS_LOTTERY_DEBUG"
"""Variable of the environment with which the traceback of an error is shown too."""

BROKEN_PIPE = 141
"""Exit code where the reader of standard output went away: nothing is known of the result, so it is not 0."""

FAULT = 70
"""Exit code of a fault of this program."""


def main(argv: Sequence[str] | None = None, stop: Stop | None = None) -> int:
    """Run a command and return its exit code.

    0, 1 for a check that failed, 2 for a mistake that the user can mend, 70 for a fault of this program, 130 after Ctrl-C, 141
    where the reader of the output went away, 143 after SIGTERM.

    Parameters
    ----------
    argv
        Arguments without the program's name; by default those of the process.
    stop
        What the signals of the process tell, where they are caught.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    stop = stop or Stop()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Read when torch is loaded, here and in every process that this one starts.
    if not {"OMP_WAIT_POLICY", *WAITING} & os.environ.keys():
        os.environ.update(WAITING)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # PEFT imports it where it is installed, and it warns
    try:
        code = _run(given)
        if (refused := output_error()) is not None:
            return _failed(refused, given)
    except KeyboardInterrupt:
        return _stopped(given, stop)
    except Exception as error:  # noqa: BLE001 (the one place that ends every error)
        return _stopped(given, stop) if stop.signal is not None else _failed(error, given)
    return code


def _stopped(given: list[str], stop: Stop) -> int:
    resumes = bool(given) and given[0] in COMMANDS and COMMANDS[given[0]].resumes
    complain("stopped" + ("; the same command resumes from what is done" if resumes else ""))
    return stop.code


def _failed(error: Exception, given: list[str]) -> int:
    """Say in one line what went wrong, and return the exit code."""
    if os.environ.get(DEBUG, "0") not in {"", "0"}:
        show_traceback(error)
    if isinstance(error, OSError):
        error = output_error() or error
    if isinstance(error, BrokenPipeError):
        return BROKEN_PIPE
    sentence = sentence_of(error)
    if sentence is not None:
        complain(in_flags(sentence, given[0] if given else None))
        return 2
    complain(
        f"this is a fault of ks-lottery, not of what you gave it: {problem_of(error)}. {DEBUG}=1 shows the traceback; "
        f"please report it {_where_to_report()}"
    )
    return FAULT


def _where_to_report() -> str:
    """Return the project's address for issues, from the package's own metadata."""
    from importlib.metadata import PackageNotFoundError, metadata

    try:
        urls = metadata("ks-lottery").get_all("Project-URL") or []
    except PackageNotFoundError:
        urls = []
    for label, _, url in (str(line).partition(", ") for line in urls):
        if any(word in label.lower() for word in ("issue", "bug", "tracker")):
            return f"at {url}"
    return "to the developers of the package ks-lottery"


def _run(given: list[str]) -> int:
    command, *words = given or ["--help"]
    if command in {"-h", "--help", "--version"}:
        write(_version() if command == "--version" else program_help())
        return 0
    if command not in COMMANDS:
        known = [*COMMANDS, "--help", "--version"]
        raise UserError(f"unknown command {shortened(command)}{did_you_mean(command, known)} (see ks-lottery --help)")
    settings = read_settings(command, words)
    if settings is None:
        return 0
    check_output(command, settings)
    from ks_lottery.store.licenses import accepting

    with accepting(every=accepts_license(words)), _heard_of(command, settings):
        return int(import_module(f"ks_lottery.cli.{command}").run(settings))


@contextmanager
def _heard_of(command: str, settings: Any) -> Generator[None]:
    """Say on standard error, every half a minute, that a command still works whose standard output does not say it."""
    from ks_lottery.report.heartbeat import Heartbeat

    data_alone = getattr(settings, "json", False) or is_stream(getattr(settings, "out", None))
    if getattr(settings, "quiet", False) or (COMMANDS[command].shows_stages and not data_alone):
        yield
    else:
        with Heartbeat(command, complain).beating():
            yield


def _version() -> str:
    from importlib.metadata import version

    return f"ks-lottery {version('ks-lottery')}\n"


def program_help() -> str:
    """Return the help of the program: the commands by task, and two examples."""
    lines = [
        "usage: ks-lottery COMMAND ...",
        "",
        *textwrap.wrap(
            "Find, train, ship and certify the few embedding rows that fine-tuning a language model really moves.",
            help_width(),
        ),
    ]
    for task in dict.fromkeys(command.task for command in COMMANDS.values()):
        lines += ["", f"{task}:"]
        lines += [_summary(name, command.summary) for name, command in COMMANDS.items() if command.task == task]
    lines += [
        "",
        *textwrap.wrap(
            "ks-lottery COMMAND --help shows the flags of a command; ks-lottery --version shows the version.",
            help_width(),
        ),
        "",
        "examples:",
    ]
    lines += [f"  ks-lottery {COMMANDS[name].example}" for name in EXAMPLES]
    return "\n".join(lines) + "\n"


def _summary(name: str, summary: str) -> str:
    begin = f"  {name:<10} "
    return textwrap.fill(summary, help_width(), initial_indent=begin, subsequent_indent=" " * len(begin))
