"""The command `where`: in which part of a text the rows of a patch act."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ks_lottery.config.measure_commands import WhereOptions
from ks_lottery.config.values import shared

if TYPE_CHECKING:
    from ks_lottery.config.measure_commands import WhereSettings


def run(settings: WhereSettings) -> int:
    """Run the command and return its exit code."""
    from ks_lottery.checkpoint.patch import RowPatch
    from ks_lottery.corpus.source import read_text
    from ks_lottery.evaluation.located import where_with
    from ks_lottery.evaluation.where_spec import WhereSpec
    from ks_lottery.models.load import load_model, open_checkpoint
    from ks_lottery.report.screen import Screen
    from ks_lottery.store.files import to_json

    spec = WhereSpec(**shared(settings, WhereOptions))
    screen, silent = Screen(total=1 + spec.stages), bool(settings.json)
    with screen.stage("open model and text", silent=silent):
        corpus = read_text(settings.first_text(settings.data))
        checkpoint = open_checkpoint(settings.model)
        patch = RowPatch.open(settings.patch)
        patch.check_base(checkpoint)
        loaded = load_model(
            checkpoint, dtype=settings.dtype, device=settings.device, trust_remote_code=settings.trust_remote_code
        )
    located = where_with(
        spec, loaded, patch, corpus, stage=lambda title: screen.stage(title, silent=silent, unit="sentences")
    )
    if settings.out:
        located.save(settings.out)
    if silent:
        sys.stdout.write(to_json(located.as_dict()))
        return 0
    screen.console.print()
    screen.show(located.sections())
    if settings.out:
        screen.say(f"\nEverything lies in {settings.out}.")
    return 0
