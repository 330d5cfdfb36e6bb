"""Several processes that train one stage together: torchrun starts them, and the first one saves what they trained."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_lottery.errors import UserError
from ks_lottery.recipes.replies import computing, replied
from ks_lottery.store.files import new_folder, read_json, write_json
from ks_lottery.tuning.processes import joined_processes

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from ks_lottery.recipes.replies import Reply
    from ks_lottery.recipes.stage import Work

TRAINED = "trained"
"""Folder, in that of the unfinished stage, of what the processes trained."""

ORDER, TICK, REPLY = "order.pickle", "tick.json", "reply-{}.pickle"
SCRIPT = """from pathlib import Path
from ks_lottery.recipes.process_group import main
raise SystemExit(main(Path({folder!r})))
"""
"""What torchrun starts in each process."""

PAUSE = 0.1
"""Seconds after which the progress is read again."""

PATIENCE = 40.0
"""Seconds in which processes that were told to end do so; torchrun itself gives them 30."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What each process does.

    Parameters
    ----------
    train
        Trains, and returns what saves the result into a folder (`ks_lottery.recipes.stage.Stage.train`).
    work
        Where the stage works.
    target
        Folder that the first process makes.
    threads
        Threads of each process.
    """

    train: Callable[[Work], Callable[[Path], object]]
    work: Work
    target: Path
    threads: int


def train_together(
    train: Callable[[Work], Callable[[Path], object]], work: Work, *, processes: int, threads: int, title: str
) -> Path:
    """Train in several processes of this machine, and return the folder of what they trained.

    Processes that were ended before are resumed from their last checkpoint; what is trained already is returned at once.

    Parameters
    ----------
    train
        Called in each of them; it must be possible to pickle it.
    work
        Its `unfinished` has checkpoints and the result.
    threads
        Threads of all of them together, at least one each.
    title
        What the screen calls the stage.

    Raises
    ------
    UserError
        When a process has ended, or training is refused as in one process.
    """
    assert work.unfinished is not None  # noqa: S101 (every stage in a store has it)
    target = (work.unfinished / TRAINED).absolute()
    if target.is_dir():
        return target
    work.unfinished.mkdir(parents=True, exist_ok=True)
    share = max(1, threads // processes)
    away = replace(
        work, tick=_no_tick, folder=work.folder.absolute(), unfinished=work.unfinished.absolute(),
        inputs={role: folder.absolute() for role, folder in work.inputs.items()},
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / ORDER).write_bytes(pickle.dumps(Order(train=train, work=away, target=target, threads=share)))
        with _started(folder, processes, share) as group:
            while group.poll() is None:
                time.sleep(PAUSE)
                with suppress(UserError, KeyError):  # nothing is said yet
                    said = read_json(folder / TICK)
                    work.tick(said["done"], said["total"])
        if group.returncode == 0 and target.is_dir():
            return target
        raise _error_of(folder, processes, title)


@contextmanager
def _started(folder: Path, processes: int, threads: int) -> Generator[subprocess.Popen[bytes]]:
    """Start the processes, which end with this one and with the block."""
    script = folder / "process.py"
    script.write_text(SCRIPT.format(folder=str(folder)))
    words = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes), str(script),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with (folder / "log.txt").open("wb") as log:
        group = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment, start_new_session=True
        )
    try:
        yield group
    finally:
        assert group.stdin is not None  # noqa: S101 (a pipe was asked for)
        group.stdin.close()  # at its end each process ends itself
        if group.poll() is None:
            group.terminate()
            try:
                group.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                group.kill()
                group.wait()


def _error_of(folder: Path, processes: int, title: str) -> Exception:
    """Return what went wrong: a refusal first, then another error, else that a process has ended."""
    replies: list[Reply] = []
    for rank in range(processes):
        with suppress(OSError, EOFError, pickle.UnpicklingError):
            replies.append(pickle.loads((folder / REPLY.format(rank)).read_bytes()))  # noqa: S301 (our process wrote it)
    errors = [reply.error for reply in replies if reply.error is not None]
    refused = [error for error in errors if isinstance(error, UserError)]
    own = [error for error in errors if not _is_lost(error)]
    if refused or own:
        return (refused or own)[0]
    return UserError(
        f"{title}: one of its {processes} processes was ended from outside or had too little memory. The same command resumes "
        "from the last checkpoint."
    )


def _is_lost(error: Exception) -> bool:
    """Say whether an error only tells that another process is no longer there."""
    from torch.distributed import DistError

    return isinstance(error, DistError) or "gloo" in str(error) or "Connection" in str(error)


def _no_tick(done: int, total: int) -> None:
    """Say nothing of what is done."""


def _with_parent() -> None:
    """End this process when the one that gave the order ends, whose end of the pipe is then closed."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main(folder: Path) -> int:
    """Do what the order in a folder says, as one of the processes, and return the exit code."""
    _with_parent()
    reply = replied(lambda: _train(folder))
    (folder / REPLY.format(os.environ["RANK"])).write_bytes(pickle.dumps(reply))
    return 0 if reply.error is None else 1


def _train(folder: Path) -> None:
    order: Order = pickle.loads((folder / ORDER).read_bytes())  # noqa: S301 (the command wrote it)
    computing(order.threads, os.curdir)

    def tick(done: int, total: int) -> None:
        write_json(folder / TICK, {"done": done, "total": total})

    with joined_processes() as is_first:
        save: Any = order.train(replace(order.work, tick=tick if is_first else _no_tick))
    if is_first:
        with new_folder(order.target) as place:
            save(place)
