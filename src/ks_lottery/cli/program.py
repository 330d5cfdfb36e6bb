"""The program around a command: signals first, then streams and warnings, and only then what is heavy to import."""

from __future__ import annotations

import sys

from ks_lottery.cli.signals import Stop, release

TYPE_CHECKING = False  # `typing` takes longer to import than all that is needed before the signals are caught
if TYPE_CHECKING:
    from typing import TextIO


def program() -> int:
    """Run the command of this process's arguments, and return the exit code.

    Where standard output is closed, nothing is run: what the command prints would be lost.
    """
    stop = Stop()
    stop.listen()
    try:
        try:
            return _run(stop)
        except KeyboardInterrupt:
            return _stopped(stop)
        finally:
            release()
            _finish()
    except KeyboardInterrupt:  # another one, of an impatient user
        return stop.code


def _run(stop: Stop) -> int:
    try:
        from ks_lottery.cli.streams import complain, prepare

        is_open = prepare()
        _show_warnings_as_lines()
        if not is_open:
            complain("standard output is closed: leave it open, or send it to a file or to /dev/null")
            return 2
        from ks_lottery.cli.main import main
    except Exception:
        if stop.signal is not None:  # an import turned it into another exception
            return _stopped(stop)
        raise
    return main(sys.argv[1:], stop)


def _stopped(stop: Stop) -> int:
    """Say that the program was stopped before its command began."""
    try:
        sys.stderr.write("ks-lottery: stopped\n")
        sys.stderr.flush()
    except (OSError, AttributeError):
        pass
    return stop.code


def _finish() -> None:
    if "ks_lottery.cli.streams" in sys.modules:
        from ks_lottery.cli.streams import finish

        finish()


def _show_warnings_as_lines() -> None:
    """Show each warning as one line: neither the place in a library nor its source, which look like a traceback."""
    import warnings

    from ks_lottery.cli.streams import complain

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,  # noqa: ARG001
        lineno: int,  # noqa: ARG001
        file: TextIO | None = None,  # noqa: ARG001
        line: str | None = None,  # noqa: ARG001
    ) -> None:
        is_notice = "AssetNotice" in {cls.__name__ for cls in category.__mro__}
        complain(str(message) if is_notice else f"warning: {message}")

    warnings.showwarning = show
