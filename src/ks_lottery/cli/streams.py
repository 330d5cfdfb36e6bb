"""Standard output and standard error: closed, full, or of an encoding that lacks characters."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
import traceback
from pathlib import Path

from ks_lottery.errors import escaped

ESCAPES = "ks_lottery.escapes"
"""Name of what writes characters that an encoding lacks: as ``\\u00e9``, which JSON reads too."""

LONGEST = 2000
"""Characters of an error's line."""


def prepare() -> bool:
    """Put what is missing in place of the standard streams, and say whether standard output is open.

    A closed one is replaced by the null device: otherwise the next file that is opened would take its number, and what a
    library writes to standard error would go into that file.
    """
    is_open = sys.stdout is not None
    codecs.register_error(ESCAPES, _escapes)
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # noqa: FBT003 (takes no keyword)
    sys.stdin = sys.stdin or Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115
    sys.stdout = sys.stdout or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ESCAPES)
    return is_open


def _escapes(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2)), error.end


def write(text: str) -> None:
    """Write to standard output: as it is into a file or a pipe; with what acts on a terminal escaped on one."""
    lines = text.split("\n")
    try:
        sys.stdout.write("\n".join(map(escaped, lines)) if sys.stdout.isatty() else text)
    except OSError as error:
        raise _named(error) from error


def complain(line: str) -> None:
    """Write one line to standard error, escaped; where it cannot be written, nothing is lost but the line."""
    shown = escaped(" ".join(line.split()))
    if len(shown) > LONGEST:
        shown = f"{shown[: LONGEST // 2]} ... {shown[-LONGEST // 2 :]}"
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"ks-lottery: {shown}\n")
        sys.stderr.flush()


def show_traceback(error: BaseException) -> None:
    """Write a traceback to standard error, escaped."""
    lines = "".join(traceback.format_exception(error)).splitlines()
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write("".join(f"{escaped(line)}\n" for line in lines))


def output_error() -> OSError | None:
    """Return why standard output could not take what was written, or None where it could."""
    try:
        sys.stdout.flush()
    except OSError as error:
        return _named(error)
    return None


def _named(error: OSError) -> OSError:
    """Return an error of standard output that says so; its class follows from its number."""
    return OSError(error.errno, error.strerror, "standard output")


def finish() -> None:
    """Flush the streams a last time; what cannot be written is dropped, so that Python does not try at its end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
