"""Ctrl-C and SIGTERM end the program in the same way, at any time: what was begun is unwound, and one line says it.

It imports nothing else of the program, so that it can be in place before anything heavy is imported.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

CAUGHT = (signal.SIGINT, signal.SIGTERM)

PAUSE = 0.05
"""Seconds after which a stop is tried again that came where Python cannot raise it."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, which is treated like Ctrl-C."""


class Stop:
    """The wish to stop, and whether there was one: libraries turn the exception of a signal into another at times."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __call__(self, number: int, _: FrameType | None) -> None:
        """Raise the exception of a signal, as its handler."""
        self.signal = number
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    @property
    def code(self) -> int:
        """Exit code of a stopped program, as shells count it."""
        return 128 + (self.signal or signal.SIGINT)

    def listen(self) -> None:
        """Catch the signals from now on, but those that whoever started the program wants ignored."""
        for number in CAUGHT:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self)
        usual = sys.unraisablehook

        def again(unraisable: sys.UnraisableHookArgs) -> None:
            """Raise a stop later that came inside of what Python calls by itself, such as a finalizer."""
            if isinstance(unraisable.exc_value, KeyboardInterrupt):
                # A signal to the main thread, which also wakes it from a call that waits.
                main = threading.main_thread().ident or 0
                timer = threading.Timer(PAUSE, signal.pthread_kill, (main, self.signal or signal.SIGINT))
                timer.daemon = True
                timer.start()
            else:
                usual(unraisable)

        sys.unraisablehook = again
        os.register_at_fork(after_in_child=release)  # a process that a library forks ends as it expects


def release() -> None:
    """Leave the signals to the system, which ends the process at once."""
    for number in CAUGHT:
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
