"""The command `where`: in which part of a text the rows of a patch act."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ks_lottery.config.measure_commands import WhereOptions
from ks_lottery.config.values import shared

if TYPE_CHECKING:
    from ks_lottery.config.measure_commands import WhereSettings


def run(settings: WhereSettings) -> int:
    """Run the command and return its exit code."""
    from ks_lottery.checkpoint.patch import RowPatch
    from ks_lottery.cli.output import deliver, is_stream
    from ks_lottery.corpus.source import read_text
    from ks_lottery.evaluation.located import where_with
    from ks_lottery.evaluation.where_spec import WhereSpec
    from ks_lottery.models.load import load_model, open_checkpoint
    from ks_lottery.report.screen import Screen

    spec = WhereSpec(**shared(settings, WhereOptions))
    screen, silent = Screen(total=1 + spec.stages), settings.json or is_stream(settings.out)
    with screen.stage("open model and text", silent=silent):
        corpus = read_text(settings.first_text(settings.data))
        patch = RowPatch.open(settings.patch)
        checkpoint = open_checkpoint(settings.model)
        patch.check_base(checkpoint)
        loaded = load_model(
            checkpoint, dtype=settings.dtype, device=settings.device, trust_remote_code=settings.trust_remote_code
        )
    located = where_with(
        spec, loaded, patch, corpus, stage=lambda title: screen.stage(title, silent=silent, unit="sentences")
    )
    deliver(settings, "figure", save=located.save, content=located.as_dict, sections=located.sections, reported=True)
    return 0
