"""The command `doctor`: what is installed, what this machine can do, and what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ks_lottery.cli.streams import write

if TYPE_CHECKING:
    from ks_lottery.config.service_commands import DoctorSettings


def run(settings: DoctorSettings) -> int:
    """Run the command and return its exit code: 1 where something required is missing or out of its range."""
    from ks_lottery.recipes.examination import examine
    from ks_lottery.store.files import to_json

    examination = examine()
    if settings.json:
        write(to_json(examination.as_dict()))
    else:
        from ks_lottery.report.screen import Screen

        Screen().show(examination.sections())
    return 0 if examination.passed else 1
