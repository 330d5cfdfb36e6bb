"""The command `demo`: a job on an embedded model and text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ks_lottery.config.job_commands import DemoSettings


def run(settings: DemoSettings) -> int:
    """Run the command and return its exit code."""
    from ks_lottery.cli.run import run_config
    from ks_lottery.recipes.demo import demo_config, demo_of

    config = demo_config(settings.target_language, settings.budget, settings.seed, settings.model)
    return run_config(config, Path(settings.folder), demo_of(settings.model))
