"""Workers of a recipe as processes of Ray, on this machine or on a cluster: the one place that uses Ray."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_lottery.errors import UserError
from ks_lottery.recipes.replies import computing, replied
from ks_lottery.recipes.worker import ProcessEnded, StageWorker
from ks_lottery.store.workspace import workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
"""Environment in which Ray sends no statistics and does not warn."""

OBJECTS = 80 * 2**20
"""Bytes that Ray shares between processes, its least: results come through the store."""

LONGEST_FOLDER = 4
"""Characters of a folder in which Ray's sockets have names that every system allows: those of /tmp."""

TRIES = 10
"""Times that the folder of Ray is removed, until nobody writes to it."""

PAUSE = 0.5
"""Seconds after which the driver looks around."""


class Cluster:
    """Processes of Ray that make stages.

    Parameters
    ----------
    count
        How many there are at most.
    threads
        Threads that each one computes with.
    needs
        What each one takes of a machine, as Ray calls it.
    """

    def __init__(self, ray: Any, *, count: int, threads: int, needs: Mapping[str, float], local: bool) -> None:
        self._ray, self.count, self.threads, self._needs, self.local = ray, count, threads, dict(needs), local

    def __repr__(self) -> str:
        return f"Cluster({self.count} workers with {self.threads} threads each)"

    def call(self, function: Callable[[], Any]) -> Any:
        """Return the value of a function in a process like those of the workers, or raise its error."""
        remote = self._ray.remote(_called).options(**self._options(0))
        return self._ray.get(remote.remote(self.threads, str(Path.cwd()), function)).unwrapped()

    def _options(self, memory: int) -> dict[str, Any]:
        return {"num_cpus": self._needs["CPU"], "num_gpus": self._needs.get("GPU", 0), "memory": memory or None}

    def workers_for(self, memory: int) -> int:
        """Return how many workers of so many bytes the machines have room for.

        Raises
        ------
        UserError
            When there is room for none.
        """
        room = _fitting(self._ray, {**self._needs, **({"memory": memory} if memory else {})})
        if not room:
            raise UserError(
                f"`workers`: no machine has the {memory / 2**30:.1f} GiB of memory, {self._needs['CPU']:g} processors and "
                f"{self._needs.get('GPU', 0):g} GPUs that a worker needs. Give a smaller model or other machines."
            )
        return min(self.count, room)

    def process(self, memory: int) -> Any:
        """Start a process with a `StageWorker`."""
        return self._ray.remote(StageWorker).options(**self._options(memory), max_restarts=0).remote()

    def end(self, actor: Any) -> None:
        """End a process of `process`."""
        self._ray.kill(actor, no_restart=True)

    def next(self, replies: Sequence[Any]) -> Any | None:
        """Wait a little for the first of some replies; None where none has come."""
        done, _ = self._ray.wait(list(replies), num_returns=1, timeout=PAUSE)
        return done[0] if done else None

    def value(self, reply: Any) -> Any:
        """Return the value of a reply, or raise its error.

        Raises
        ------
        ProcessEnded
            When the process has ended.
        """
        errors = self._ray.exceptions
        try:
            return self._ray.get(reply).unwrapped()
        except errors.RayTaskError as error:  # before the code of the worker begins
            raise UserError(
                f"`workers`: a worker cannot begin ({str(error.cause or error).splitlines()[-1]}). Install the same version "
                "of ks-lottery on every machine."
            ) from error
        except errors.RayError as error:
            raise ProcessEnded(str(error)) from error


def _called(threads: int, folder: str, function: Callable[[], Any]) -> Any:
    computing(threads, folder)
    return replied(function)


def _fitting(ray: Any, needs: Mapping[str, float]) -> int:
    """Return how many times the machines have what a worker needs."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    wanted = {name: amount for name, amount in needs.items() if amount}
    return sum(min(int(node.get(name, 0) / amount + 1e-6) for name, amount in wanted.items()) for node in machines)


@contextmanager
def connected(workers: str, device: str, processes: int = 1) -> Generator[Cluster]:
    """Start Ray on this machine, or connect to a cluster, and end what was started when the block ends.

    Parameters
    ----------
    workers
        ``local``, as many as this machine has room for; ``local:N``; ``HOST:PORT`` of a cluster; or ``auto``, the cluster that
        this machine belongs to.
    device
        As `load_model` takes it: with ``cuda`` each worker takes a GPU, with ``auto`` if the machines have any. More local
        workers than GPUs share them.
    processes
        Processes in which each worker trains: it takes as many GPUs, and at least as many processors.

    Raises
    ------
    UserError
        When Ray is not installed, in use already, or cannot be started or reached.
    """
    if find_spec("ray") is None:
        raise UserError("`workers` needs Ray: pip install 'ks-lottery[cluster]'")
    local, _, given = workers.partition(":") if workers.partition(":")[0] == "local" else ("", "", "")
    threads = _threads()
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    each = max(threads, processes)
    count = int(given) if given else max(1, processors // each)
    with ExitStack() as stack:
        stack.enter_context(_environment({**QUIET, **(_private() if local else {})}))
        settings = None
        if local:
            settings = {"num_cpus": count * each, "_temp_dir": stack.enter_context(_short_folder())}
        ray = import_module("ray")
        stack.enter_context(_silence())
        _initialise(ray, workers, settings)
        stack.callback(ray.shutdown)
        gpus = 0.0 if device in {"cpu", "mps"} else float(ray.cluster_resources().get("GPU", 0))
        if device == "cuda" and not gpus:
            raise UserError("device cuda is not available to the workers: use auto or cpu")
        share = gpu_share(gpus, count) if local and processes == 1 else float(processes)
        needs = {"CPU": float(each), **({"GPU": share} if gpus else {})}
        most = _fitting(ray, needs)
        yield Cluster(ray, count=count if local and given else most, threads=threads, needs=needs, local=bool(local))


def gpu_share(gpus: float, workers: int) -> float:
    """Return the part of a GPU, from 0 to 1 in ten-thousandths, that each worker has where workers share few GPUs evenly.

    >>> gpu_share(4, 2), gpu_share(1, 2), gpu_share(2, 5), gpu_share(0, 2)
    (1.0, 0.5, 0.3333, 1.0)
    """
    return 1.0 if gpus >= workers or not gpus else int(10_000 / -(-workers // gpus)) / 10_000


def _private() -> dict[str, str]:
    """Return the environment in which Ray listens on this machine alone, and to this command alone."""
    return {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # its name apart: 127.0.0.1 is then the address of this machine
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }


@contextmanager
def _environment(values: Mapping[str, str]) -> Generator[None]:
    """Set variables of the environment inside a block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            os.environ.update({} if value is None else {name: value})


def _threads() -> int:
    """Return the threads that a worker computes with: those of the environment, as for one process, else one."""
    given = os.environ.get("OMP_NUM_THREADS", "1").split(",")[0].strip()
    if not given.isdigit() or int(given) < 1:
        raise UserError(
            f"OMP_NUM_THREADS is {given!r}, but must be a whole number from 1: set it to the threads of a worker"
        )
    return int(given)


@contextmanager
def _silence() -> Generator[None]:
    """Keep Ray from printing inside a block what its processes report, which no setting does: `Crew` says what matters."""
    driver: Any = import_module("ray._private.worker")
    name = "print_to_stdstream"
    before = getattr(driver, name, None)
    if before is not None:
        setattr(driver, name, lambda *_, **__: None)
    try:
        yield
    finally:
        if before is not None:
            setattr(driver, name, before)


@contextmanager
def _short_folder() -> Generator[str]:
    """Make a folder for Ray, whose sockets have long names, and remove it, with those of killed commands."""
    usual = tempfile.gettempdir()
    with workspace(Path(usual if len(usual) <= LONGEST_FOLDER else "/tmp") / "k") as folder:  # noqa: S108
        folder.chmod(0o700)
        yield str(folder)
        for _ in range(TRIES):  # processes that end write to it
            shutil.rmtree(folder, ignore_errors=True)
            if not folder.exists():
                break
            time.sleep(PAUSE)


def _initialise(ray: Any, workers: str, local: dict[str, Any] | None) -> None:
    """Start or reach Ray, which must not keep the signals that it takes.

    Parameters
    ----------
    local
        Settings of Ray on this machine alone; None for a cluster.
    """
    if ray.is_initialized():
        raise UserError(
            "`workers`: this process uses Ray already. End that with ray.shutdown(), or leave `workers` out."
        )
    if local is None and workers != "auto":
        _check_reached(workers)
    settings = {"address": workers} if local is None else {
        "address": "local", "include_dashboard": False, "object_store_memory": OBJECTS, **local,
    }  # fmt: skip
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    hook = sys.excepthook
    try:
        ray.init(**settings, log_to_driver=False, logging_level="ERROR")
    except (RuntimeError, OSError, ValueError, AssertionError) as error:
        what = "Ray cannot be started" if local is not None else f"the cluster {workers} cannot be used"
        raise UserError(
            f"`workers`: {what} ({' '.join(str(error).split())[:200]}). Give local, or the address of a cluster on a "
            "machine of the cluster, with the same versions of Ray and Python."
        ) from error
    finally:
        sys.excepthook = hook
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)
    if local is not None and not all(node["NodeManagerAddress"].startswith("127.") for node in ray.nodes()):
        ray.shutdown()
        raise UserError(
            "`workers`: Ray was imported in this process before and would listen on the network. Call it in a new process."
        )


def _check_reached(address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise UserError(
            f"`workers`: {address} does not answer ({error.strerror or error}). Give the address of a cluster of Ray, or local."
        ) from error
