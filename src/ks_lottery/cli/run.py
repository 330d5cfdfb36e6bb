"""The command `run`: the main job on the user's own model and text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ks_lottery.config.job_commands import RunSettings
    from ks_lottery.config.settings import RunConfig
    from ks_lottery.recipes.demo import Demo


def run(settings: RunSettings) -> int:
    """Run the command and return its exit code."""
    return run_config(settings.config, Path(settings.out))


def run_config(config: RunConfig, out: Path, demo: Demo | None = None) -> int:
    """Run the main job, or that of a demo, in the folder `out`, and print its summary."""
    from ks_lottery.cli.output import see_it
    from ks_lottery.recipes.page import write_report
    from ks_lottery.recipes.run import run as run_recipe
    from ks_lottery.recipes.run_stages import main_recipe
    from ks_lottery.recipes.summary_sections import run_sections
    from ks_lottery.report.screen import Screen

    screen = Screen(total=0)
    summary = run_recipe(config, out, screen, main_recipe if demo is None else demo.recipe)
    screen.say("")
    screen.show((run_sections if demo is None else demo.sections)(summary, str(out)))
    write_report([out])
    screen.say(see_it(out))
    return 0
