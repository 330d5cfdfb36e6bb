"""The command `inspect`: a text as the model will see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ks_lottery.cli.streams import write
from ks_lottery.config.groups import CleaningOptions
from ks_lottery.config.values import shared

if TYPE_CHECKING:
    from ks_lottery.config.train_commands import InspectSettings


def run(settings: InspectSettings) -> int:
    """Run the command and return its exit code."""
    from ks_lottery.evaluation.inspect import inspect
    from ks_lottery.report.screen import Screen
    from ks_lottery.store.files import to_json

    inspection = inspect(
        settings.first_text(settings.text),
        settings.model,
        template=settings.template,
        max_tokens=settings.max_tokens,
        examples=settings.examples,
        **shared(settings, CleaningOptions),
    )
    if settings.json:
        write(to_json(inspection.as_dict()))
    else:
        Screen(total=1).show(inspection.sections())
    return 0
