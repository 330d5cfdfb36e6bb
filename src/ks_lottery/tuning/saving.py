"""When a training is saved beside its regular checkpoints: every two minutes, and when it is stopped."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from types import FrameType

SAVE_SECONDS = 120.0
"""Seconds between two checkpoints at most, as far as a step does not take longer."""

STOPS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """The wish to stop, which is granted after the step that runs; a second one is granted at once."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._raise: Callable[[], object] | None = None

    @property
    def wanted(self) -> bool:
        """Whether somebody wants to stop."""
        return self.signal is not None

    @contextmanager
    def listening(self) -> Generator[StopRequest]:
        """Keep Ctrl-C and SIGTERM until the block's end, which then ends as they would have ended it.

        A signal whose handler is not Python's, such as SIGTERM by default, is left alone; so are all outside the main thread.
        """
        before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            before = {number: signal.getsignal(number) for number in STOPS}
            before = {number: handler for number, handler in before.items() if callable(handler)}

        def note(number: int, frame: FrameType | None) -> None:
            if self.wanted:
                before[number](number, frame)
            self.signal = number
            self._raise = lambda: before[number](number, frame)

        for number in before:
            signal.signal(number, note)
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        self.grant()

    def grant(self) -> None:
        """End as the signal would have ended, if there was one."""
        if self._raise is not None:
            self._raise()


class Saving(TrainerCallback):
    """Saves a training every two minutes, and before it stops.

    A checkpoint at the end of an epoch is written after the validation that comes then, so that whoever resumes from it does
    not miss that validation.

    Parameters
    ----------
    stop
        The wish to stop.
    steps_an_epoch
        Steps of an epoch.
    validates_epochs
        Whether the loss is measured at the end of each epoch.
    together
        Takes numbers of this process and returns their sums over all processes: they save and stop at the same step.
    """

    def __init__(
        self,
        stop: StopRequest,
        *,
        steps_an_epoch: int,
        validates_epochs: bool,
        together: Callable[[Sequence[float]], Sequence[float]],
    ) -> None:
        self.stop, self.together = stop, together
        self.steps_an_epoch, self.validates_epochs = steps_an_epoch, validates_epochs
        self.last = time.monotonic()
        self.stopping = self.postponed = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Count the time from now."""
        self.last = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ask for a checkpoint where it is time for one."""
        due = float(args.process_index == 0 and time.monotonic() - self.last >= SAVE_SECONDS)
        stops, saves = self.together([float(self.stop.wanted), due])
        self.stopping = stops > 0
        control.should_save = control.should_save or saves > 0 or self.stopping
        control.should_training_stop = control.should_training_stop or self.stopping
        ends_epoch = state.global_step % self.steps_an_epoch == 0 or state.global_step >= state.max_steps
        if control.should_save and self.validates_epochs and ends_epoch:
            control.should_save, self.postponed = False, True

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Ask for a checkpoint that was postponed; a training that stops in the middle of an epoch is not at its end."""
        if self.postponed:
            control.should_save, self.postponed = True, False
        elif self.stopping:
            control.should_save = control.should_evaluate = control.should_log = False

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Count the time from this checkpoint."""
        self.last = time.monotonic()
