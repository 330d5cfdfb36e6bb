"""The workers of a recipe as its driver sees them: which stage each makes, and what happens where one of them ends."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_lottery.errors import UserError
from ks_lottery.recipes.schedule import Schedule
from ks_lottery.recipes.worker import ProcessEnded, Start, visible
from ks_lottery.report.worker_table import WorkerTable
from ks_lottery.store.workspace import workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ks_lottery.recipes.cluster import Cluster
    from ks_lottery.recipes.stored import StoredRecipe
    from ks_lottery.report.screen import Screen
    from ks_lottery.store.stored_stage import StoredStage

ATTEMPTS = 3
"""Times that a stage is begun whose worker ends before it is made."""


@dataclass(eq=False, kw_only=True)
class Process:
    """A process of Ray that makes stages, as the driver sees it.

    Parameters
    ----------
    number
        Its number, from 1; another process in its place has the same one.
    stage
        Name of the stage that it makes; None while it starts.
    model
        Name of the model that it loaded last.
    """

    number: int
    actor: Any
    host: str = ""
    stage: str | None = None
    model: str | None = None
    since: float = 0.0


@dataclass(frozen=True, kw_only=True)
class _Work:
    """Stages that are to be made, how they are shown, and the bytes of memory that the largest of them takes."""

    schedule: Schedule
    table: WorkerTable
    memory: int


def make_on(
    cluster: Cluster,
    prepare: Callable[[], StoredRecipe],
    stored: StoredRecipe,
    names: Sequence[str],
    made: dict[str, StoredStage],
    screen: Screen,
) -> Iterator[tuple[str, StoredStage]]:
    """Make stages on workers, with all that they need, and yield each with its name; see `StoredRecipe.in_order`.

    Parameters
    ----------
    prepare
        Returns the same recipe in the process of a worker.
    """
    needs = stored.recipe.needed(names)
    costs = {name: stage.cost() for name in needs if (stage := stored.recipe.stage(name)).cost is not None}
    on_gpu = str(stored.conditions["device"]).startswith("cuda")
    work = _Work(
        schedule=Schedule(needs, {name: cost.tokens for name, cost in costs.items()}),
        table=WorkerTable(screen, len(needs)),
        memory=0 if on_gpu else max((cost.memory for cost in costs.values()), default=0),
    )
    with workspace(stored.store.root / "workers") as mark, work.table.shown():
        start = Start(
            prepare=prepare, folder=str(Path.cwd()), threads=cluster.threads, conditions=stored.conditions,
            mark=str(mark.absolute()),
        )  # fmt: skip
        wanted = set(names)
        for name, stage in Crew(cluster, start, stored, made, work).stages():
            if name in wanted:
                yield name, stage


class Crew:
    """The workers of one recipe, and what each makes."""

    def __init__(
        self, cluster: Cluster, start: Start, stored: StoredRecipe, made: dict[str, StoredStage], work: _Work
    ) -> None:
        self.cluster, self.start, self.stored, self.made = cluster, start, stored, made
        self.schedule, self.table, self.memory = work.schedule, work.table, work.memory
        self.most: int | None = None
        self.keys: dict[str, str] = {}
        self.idle: list[Process] = []
        self.replies: dict[Any, Process] = {}
        self.ended: dict[str | None, int] = {}

    def stages(self) -> Iterator[tuple[str, StoredStage]]:
        """Make every stage, and yield each with its name."""
        try:
            while not self.schedule.is_done:
                for name in self.schedule.ready():
                    found = None if name in self.keys else self._in_store(name)
                    if found is not None:
                        yield self._finished(name, found, "done before")
                self._give_out()
                if self.replies:
                    reply = self.cluster.next(list(self.replies))
                    yield from () if reply is None else self._replied(reply)
        finally:
            self.end()

    def _in_store(self, name: str) -> StoredStage | None:
        self.keys[name] = self.stored.key_of(name, self._sources(name))
        return self.stored.store.whole(self.keys[name])

    def _finished(self, name: str, stage: StoredStage, how: str) -> tuple[str, StoredStage]:
        self.made[name] = stage
        self.schedule.finish(name)
        self.table.finished(self._title(name), how)
        return name, stage

    def _give_out(self) -> None:
        """Give a stage to each worker without one; where there are more stages, start more workers."""
        ready = [name for name in self.schedule.ready() if name in self.keys]
        starting = sum(worker.stage is None for worker in self.replies.values())
        self._hire(len(ready) - len(self.idle) - starting)
        while ready and self.idle:
            worker = self.idle.pop(0)
            name = next((name for name in ready if self._model(name) == worker.model), ready[0])
            ready.remove(name)
            self._give(worker, name)

    def _hire(self, wanted: int) -> None:
        """Start as many workers as are wanted and have room."""
        if self.most is None:
            self.most = self.cluster.workers_for(self.memory)
            if self.most < self.cluster.count:
                self.table.screen.say(f"{self.most} of {self.cluster.count} workers have room in memory")
        numbers = {worker.number for worker in (*self.idle, *self.replies.values())}
        for number in range(1, self.most + 1):
            if wanted > 0 and number not in numbers:
                worker = Process(number=number, actor=self.cluster.process(self.memory))
                self.replies[worker.actor.begin.remote(self.start)] = worker
                self.table.works(number, "starts")
                wanted -= 1

    def _give(self, worker: Process, name: str) -> None:
        worker.stage, worker.since = name, time.monotonic()
        worker.model = self._model(name) or worker.model
        sources = {source: stage.key for source, stage in self._sources(name).items()}
        self.replies[worker.actor.make.remote(name, self.keys[name], sources)] = worker
        self.schedule.begin(name)
        self.table.works(worker.number, self._title(name))

    def _replied(self, reply: Any) -> list[tuple[str, StoredStage]]:
        worker = self.replies.pop(reply)
        name = worker.stage
        try:
            value = self.cluster.value(reply)
        except ProcessEnded:
            self._lost(worker)
            return []
        except Exception:
            self.idle.append(worker)  # so that it is ended with the others
            raise
        self.idle.append(worker)
        if name is None:
            worker.host = "" if self.cluster.local else f" on {value[0]}"
            self.table.works(worker.number, "waits")
            return []
        worker.stage = None
        self.table.works(worker.number, "waits")
        took = f"{time.monotonic() - worker.since:.1f} s, worker {worker.number}{worker.host}"
        return [self._finished(name, visible(self.stored.store, value), took)]

    def _lost(self, worker: Process) -> None:
        """Give the stage of a process that ended to another one."""
        name = worker.stage
        what = "a worker that starts" if name is None else self._title(name)
        self.ended[name] = self.ended.get(name, 0) + 1
        if self.ended[name] == ATTEMPTS:
            raise UserError(
                f"{what}: its process was ended from outside or had too little memory, {ATTEMPTS} times. Give fewer `workers` "
                "or a smaller model; the same command resumes."
            )
        if name is not None:
            self.schedule.again(name)
        self.table.works(worker.number, "ended")
        self.table.screen.say(f"{what}: worker {worker.number}{worker.host} has ended; another one takes its place")

    def end(self) -> None:
        """End all processes."""
        for worker in (*self.idle, *self.replies.values()):
            self.cluster.end(worker.actor)

    def _title(self, name: str) -> str:
        return self.stored.recipe.stage(name).title

    def _model(self, name: str) -> str | None:
        stage = self.stored.recipe.stage(name)
        return None if stage.prepare is None else stage.roles.get("model")

    def _sources(self, name: str) -> dict[str, StoredStage]:
        return {source: self.made[source] for source in self.stored.recipe.sources(name)}
