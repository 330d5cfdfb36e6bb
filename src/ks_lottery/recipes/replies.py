"""What comes of a call in another process: its value, or its error with the traceback as a note."""

from __future__ import annotations

import os
import pickle
import socket
import traceback
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What came of a call in another process: a value or an error."""

    value: Any = None
    error: Exception | None = None

    def unwrapped(self) -> Any:
        """Return the value, or raise the error."""
        if self.error is not None:
            raise self.error
        return self.value


def replied(work: Callable[[], Any]) -> Reply:
    """Do something and return its value, or the error with its traceback as a note."""
    try:
        return Reply(value=work())
    except Exception as error:  # noqa: BLE001 (it is raised in the process that asked)
        error.add_note(f"in a worker on {socket.gethostname()}:\n{traceback.format_exc()}")
        try:
            pickle.loads(pickle.dumps(error))  # noqa: S301 (what was just written)
        except Exception:  # noqa: BLE001 (errors of other packages can be anything)
            return Reply(error=RuntimeError(f"{type(error).__qualname__}: {error}"))
        return Reply(error=error)


def computing(threads: int, folder: str) -> None:
    """Compute with so many threads from now on, and read relative names from a folder if this machine has it."""
    import torch

    torch.set_num_threads(threads)
    with suppress(OSError):
        os.chdir(folder)
