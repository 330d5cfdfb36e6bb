"""The command `reproduce`: the tables of a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ks_lottery.cli.output import see_it
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from ks_lottery.config.recipe_commands import ReproduceSettings


def run(settings: ReproduceSettings) -> int:
    """Run the command and return its exit code."""
    if settings.measure and not settings.dry_run:
        raise UserError("`measure` measures steps for a dry run: give `dry_run` too")
    if settings.measure and settings.workers is not None:
        raise UserError("`measure` measures in this process alone: leave `workers` out")
    if settings.measure and settings.processes > 1:
        raise UserError("`measure` measures in this process alone: leave `processes` out")
    if settings.finished and (settings.dry_run or settings.workers is not None):
        raise UserError("`finished` computes nothing: leave `dry_run` and `workers` out")
    from ks_lottery.recipes.recipe_plan import plan_recipe
    from ks_lottery.recipes.reproduce import opened, reproduce_with
    from ks_lottery.report.drawing import MISSING, can_draw
    from ks_lottery.report.screen import Screen

    screen = Screen(total=0)
    if settings.dry_run:
        with opened(settings, screen) as (prepared, cluster):
            workers = 1 if cluster is None else cluster.count
            screen.show(plan_recipe(prepared, measure=settings.measure, workers=workers).sections())
        return 0
    out = None if settings.out is None else Path(settings.out).expanduser()
    made = reproduce_with(settings, screen, out)
    screen.say("")
    screen.show(made.sections())
    if out is not None:
        screen.say(f"All tables are in {out}.")
        if made.charts and not can_draw():
            screen.say(f"{MISSING[0].upper()}{MISSING[1:]}.")
        screen.say(see_it(out))
    return 0
