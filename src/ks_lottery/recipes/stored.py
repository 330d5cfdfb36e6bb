"""Makes the stages of a recipe in a store, each only when a missing cell needs it and no process has made it before."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ks_lottery.recipes.process_group import train_together
from ks_lottery.recipes.stage import FIGURES_FILE, Work
from ks_lottery.store.cells import FinishedCell
from ks_lottery.store.files import read_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ks_lottery.recipes.stage import Recipe, Stage
    from ks_lottery.report.screen import Screen
    from ks_lottery.store.cells import Cells
    from ks_lottery.store.objects import ObjectStore
    from ks_lottery.store.stored_stage import StoredStage


@dataclass(frozen=True, kw_only=True)
class StoredRecipe:
    """A recipe whose stages are made in a store.

    Parameters
    ----------
    conditions
        What decides the numbers beside inputs and settings: threads, type, device and versions; and processes, where several
        train together. The key of a stage has all of them that concern it. That of a cell has the type alone, so that cells
        of another machine are read as done.
    arguments
        What the recipe was called with, for `explain`.
    """

    recipe: Recipe
    store: ObjectStore
    cells: Cells
    conditions: Mapping[str, Any]
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def processes(self) -> int:
        """Processes that train a stage together."""
        return self.conditions.get("processes", 1)

    def present(self) -> list[bool]:
        """Say of each cell whether it is finished or can be made on this machine (`Cell.needs`)."""
        return [
            not cell.needs or self.cells.read(key) is not None
            for cell, key in zip(self.recipe.cells, self.cell_keys(), strict=True)
        ]

    def cell_keys(self) -> list[str]:
        """Return the key of each cell, in their order."""
        planned = self.recipe.planned_keys({"dtype": self.conditions["dtype"]})
        return [planned[cell.stage] for cell in self.recipe.cells]

    def finished(self) -> dict[str, FinishedCell]:
        """Return the cells that are finished by their key, in their order; nothing is made."""
        keys = self.cell_keys()
        cells = {key: self._finished(place, key) for place, key in enumerate(keys)}
        return {key: cell for key, cell in cells.items() if cell is not None}

    def execute(self, screen: Screen, make: StageMaker | None = None) -> list[FinishedCell]:
        """Make what is missing, and return every cell that is present (`present`).

        Parameters
        ----------
        make
            Makes stages, with all that they need, and yields each with its name; by default this process, in order.

        Raises
        ------
        UserError
            When a stage cannot be made, a cell is damaged, or the store cannot be written.
        """
        keys = self.cell_keys()
        here = [place for place, is_here in enumerate(self.present()) if is_here]
        cells = {place: self._finished(place, keys[place]) for place in here}
        done = sum(cell is not None for cell in cells.values())
        if done:
            screen.say(f"{done:,} of {len(cells):,} cells are in {self.cells.folder} already")
        places: dict[str, list[int]] = {}
        for place, cell in cells.items():
            if cell is None:
                places.setdefault(self.recipe.cells[place].stage, []).append(place)
        if places:
            stored: dict[str, StoredStage] = {}
            with self.store.in_use():
                try:
                    for name, measured in (make or StoredRecipe.in_order)(self, list(places), stored, screen):
                        for place in places[name]:
                            cells[place] = self._cell(place, keys[place], measured)
                finally:
                    if stored:
                        used = [stage.key for stage in stored.values()]
                        self.store.note_use(self.recipe.name, self.arguments, used)
        return [cell for cell in cells.values() if cell is not None]

    def in_order(
        self, names: Sequence[str], stored: dict[str, StoredStage], screen: Screen
    ) -> Iterator[tuple[str, StoredStage]]:
        """Make stages one after the other, with all that they need, and yield each with its name.

        Parameters
        ----------
        stored
            Stages that are known already; takes those that are made.
        """
        for name in names:
            yield name, self._made(name, stored, screen)

    def _finished(self, place: int, key: str) -> FinishedCell | None:
        """Read a cell; model and texts are called as they are now, since the key has their content and not their names."""
        cell = self.cells.read(key)
        return None if cell is None else replace(cell, about=dict(self.recipe.cells[place].about))

    def _cell(self, place: int, key: str, measured: StoredStage) -> FinishedCell:
        finished = FinishedCell(
            recipe=self.recipe.name,
            about=dict(self.recipe.cells[place].about),
            figures=read_json(measured.folder / FIGURES_FILE),
            conditions={
                **measured.about["conditions"],
                **({"processes": several} if (several := self.processes) > 1 else {}),
            },
        )
        self.cells.write(key, finished)
        return finished

    def _made(self, name: str, stored: dict[str, StoredStage], screen: Screen) -> StoredStage:
        """Return the object of a stage; made, with all that it needs, where it is missing or damaged."""
        if name not in stored:
            sources = self.recipe.sources(name)
            stored[name] = self.make_stage(name, {s: self._made(s, stored, screen) for s in sources}, screen)
        return stored[name]

    def key_of(self, name: str, made: Mapping[str, StoredStage]) -> str:
        """Return the key of a stage, which has the content of its inputs.

        Parameters
        ----------
        made
            Objects of the stages that it reads, by their names.
        """
        return self.recipe.stage(name).key(self._digests(made), self.conditions)

    def _digests(self, made: Mapping[str, StoredStage]) -> dict[str, str]:
        return {**self.recipe.inputs, **{source: stage.digest for source, stage in made.items()}}

    def make_stage(self, name: str, made: Mapping[str, StoredStage], screen: Screen) -> StoredStage:
        """Return the object of a stage; made where it is missing or damaged, by one process at a time.

        Parameters
        ----------
        made
            Objects of the stages that it reads, by their names.
        """
        stage, key = self.recipe.stage(name), self.key_of(name, made)
        found = self.store.whole(key)
        if found is not None:
            screen.skipped(stage.title)
            return found
        with self.store.making(key, lambda: screen.say(f"waiting for another process: {stage.title}")):
            return self.store.whole(key) or self._make(stage, key, made, screen)

    def _make(self, stage: Stage, key: str, made: Mapping[str, StoredStage], screen: Screen) -> StoredStage:
        digests = self._digests(made)
        cost = None if stage.cost is None else stage.cost()
        about: dict[str, Any] = {
            "stage": stage.kind or stage.name,
            "title": stage.title,
            "recipe": self.recipe.name,
            "code": stage.code,
            "settings": dict(stage.settings),
            "inputs": {
                role: {"key": made[name].key if name in made else None, "digest": digests[name]}
                for role, name in stage.roles.items()
            },
            "conditions": stage.under(self.conditions),
            "tokens": 0 if cost is None else cost.tokens,
            "pace": "" if cost is None else cost.pace,
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        if stage.prepare is not None:
            stage.prepare()
        start = time.perf_counter()
        with screen.stage(stage.title) as tick, self.store.publishing(key, about) as folder:
            inputs = {role: made[name].folder for role, name in stage.roles.items() if name in made}
            work = Work(folder=folder, tick=tick, inputs=inputs, unfinished=self.store.unfinished(key))
            if stage.train is not None and self.processes > 1:
                threads, several = self.conditions["threads"], self.processes
                trained = train_together(stage.train, work, processes=several, threads=threads, title=stage.title)
                work = replace(work, trained=trained)
            outcome = stage.make(work)
            about["seconds"] = round(time.perf_counter() - start, 3)
        for line in outcome.log if outcome.shown else ():
            screen.say(f"        {line}")
        return self.store.open(key)


StageMaker = Callable[
    [StoredRecipe, Sequence[str], dict[str, "StoredStage"], "Screen"], Iterator[tuple[str, "StoredStage"]]
]
"""Makes stages as `StoredRecipe.in_order` does."""
