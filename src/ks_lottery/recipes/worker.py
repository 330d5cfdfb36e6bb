"""What a worker of a recipe does in its own process: it prepares the recipe once, and makes the stages that it is told to."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_lottery.errors import UserError
from ks_lottery.recipes.replies import Reply, computing, replied

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ks_lottery.recipes.stored import StoredRecipe
    from ks_lottery.store.objects import ObjectStore
    from ks_lottery.store.stored_stage import StoredStage

VISIBLE = 60.0
"""Seconds after which what another machine wrote can be seen: network file systems remember so long what was missing."""


class ProcessEnded(Exception):  # noqa: N818 (it is an event that is handled, and reaches nobody)
    """The process of a worker has ended before it replied."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a worker begins with.

    Parameters
    ----------
    prepare
        Returns the recipe; called once.
    folder
        Working folder of the command, from which relative names are read.
    threads
        Threads that compute.
    conditions
        Conditions under which the command says that its stages are computed.
    mark
        A path in the store that is there while the command works, by which a worker knows that it sees the same folder.
    """

    prepare: Callable[[], StoredRecipe]
    folder: str
    threads: int
    conditions: Mapping[str, Any]
    mark: str


class StageWorker:
    """Makes stages; lives in a process of its own, and keeps the model that it loaded last."""

    def __init__(self) -> None:
        self.stored: StoredRecipe | None = None

    def begin(self, start: Start) -> Reply:
        """Prepare the recipe, and return the name of this machine and the number of this process."""
        return replied(lambda: self._begin(start))

    def _begin(self, start: Start) -> tuple[str, int]:
        host = socket.gethostname()
        computing(start.threads, start.folder)
        if not Path(start.mark).exists():
            raise UserError(
                f"`workers`: the machine {host} does not have the folder {Path(start.mark).parent} of this command. Give a "
                "`store` that all machines share."
            )
        self.stored = start.prepare()
        here, there = dict(self.stored.conditions), dict(start.conditions)
        if here != there:
            name = next(name for name in {**there, **here} if here.get(name) != there.get(name))
            raise UserError(
                f"`workers`: the machine {host} computes under other conditions than the first worker ({name}: "
                f"{here.get(name)}, not {there.get(name)}). Give workers on machines that are alike."
            )
        return host, os.getpid()

    def make(self, name: str, key: str, sources: Mapping[str, str]) -> Reply:
        """Make a stage that is not in the store, and return its key.

        Parameters
        ----------
        key
            Key that the command expects.
        sources
            Key of each stage that it reads, by its name.
        """
        return replied(lambda: self._make(name, key, sources))

    def _make(self, name: str, key: str, sources: Mapping[str, str]) -> str:
        from rich.console import Console

        from ks_lottery.report.screen import Screen

        stored = self.stored
        if stored is None:
            raise RuntimeError(f"stage {name} was asked for before the recipe was prepared")
        made = {source: visible(stored.store, its) for source, its in sources.items()}
        if name not in {stage.name for stage in stored.recipe.stages} or stored.key_of(name, made) != key:
            raise UserError(
                f"`workers`: the machine {socket.gethostname()} reads other models or texts than this command, or has another "
                f"version of ks-lottery ({name}). Give folders that all machines share, and install the same version."
            )
        with stored.store.in_use():
            return stored.make_stage(name, made, Screen(0, Console(file=StringIO()))).key


def visible(store: ObjectStore, key: str) -> StoredStage:
    """Open an object that was just made, perhaps on another machine.

    Raises
    ------
    UserError
        When it cannot be read after `VISIBLE` seconds.
    """
    end = time.monotonic() + VISIBLE
    while True:
        try:
            return store.open(key)
        except UserError:
            if time.monotonic() > end:
                raise
        time.sleep(0.2)
