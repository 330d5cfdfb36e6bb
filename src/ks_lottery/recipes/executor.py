"""Executes the stages of a recipe on this machine, in order; a stage whose result is there with the same key is skipped."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ks_lottery.recipes.stage import Work

if TYPE_CHECKING:
    from ks_lottery.recipes.stage import Recipe
    from ks_lottery.report.screen import Screen
    from ks_lottery.store.run_folder import RunFolder


def execute(recipe: Recipe, folder: RunFolder, screen: Screen) -> None:
    """Make every stage of `recipe` in `folder` that is not there yet.

    A stage is made again when its settings, the content of its inputs or the versions of the packages changed, or when a file
    of it is missing or damaged. A stage whose inputs were made again with the same content is skipped.
    """
    order = [stage.name for stage in recipe.stages]
    digests = dict(recipe.inputs)
    for stage in recipe.stages:
        key = stage.key(digests)
        if folder.is_done(stage.name, key):
            screen.skipped(stage.title)
        else:
            folder.discard(stage.name)
            start = time.perf_counter()
            with screen.stage(stage.title) as tick:
                unfinished = folder.unfinished(stage.name, key)
                outcome = stage.make(Work(folder=folder.path, tick=tick, unfinished=unfinished))
            folder.finish(stage.name, key, outcome.files, outcome.log, order)
            folder.remove_unfinished()
            folder.time(stage.name, time.perf_counter() - start)
            for line in outcome.log if outcome.shown else ():
                screen.say(f"        {line}")
        digests[stage.name] = folder.digest(stage.name)
    folder.remove_unfinished()  # of a process that was killed after its last stage
