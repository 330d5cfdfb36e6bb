"""The command `scan`: what fine-tuning changed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ks_lottery.cli.messages import in_flags
from ks_lottery.cli.output import deliver, is_stream

if TYPE_CHECKING:
    from ks_lottery.config.ticket_commands import ScanSettings
    from ks_lottery.report.section import Section


def run(settings: ScanSettings) -> int:
    """Run the command and return its exit code: 1 when a unit is above ``--fail-above``.

    Raises
    ------
    UserError
        Also when no unit is above it, but tensors were not compared.
    """
    from ks_lottery.checkpoint.page_cache import fill_page_cache
    from ks_lottery.checkpoint.tensors import EMBEDDING_NAMES, HEAD_NAMES

    whole = settings.units in {"matrix-rows", "all"}
    fill_page_cache(settings.base, settings.tuned, modules=() if whole else EMBEDDING_NAMES + HEAD_NAMES)
    # Imported only now: the disk reads meanwhile.
    from ks_lottery.report.screen import Screen
    from ks_lottery.tickets.blocks import process_rank
    from ks_lottery.tickets.compare import compare
    from ks_lottery.tickets.power import check_alpha

    check_alpha(settings.alpha)
    screen, first = Screen(), process_rank() == 0
    silent = settings.quiet or settings.json or is_stream(settings.out)
    with screen.stage("scan", silent=silent or not first) as tick:
        result = compare(
            settings.base,
            settings.tuned,
            units=settings.units,
            tensors=settings.tensors,
            alpha=settings.alpha,
            compare_as=settings.compare_as,
            ignore_tokenizer=settings.ignore_tokenizer,
            quantile_rows=settings.quantile_rows,
            tick=tick,
        )
    if first:  # of several processes, one writes and prints for all
        shown: dict[str, Any] = {"alpha": settings.alpha, "correction": settings.correction, "top": settings.top}
        deliver(
            settings, "unit",
            save=result.save, content=lambda: result.as_dict(**shown),
            sections=lambda: [_in_flags(section) for section in result.sections(**shown)], quiet=settings.quiet,
            reported=True,
        )  # fmt: skip
    if result.has_statistic_above(settings.fail_above):
        return 1
    if settings.fail_above is not None:
        result.check_complete()
    return 0


def _in_flags(section: Section) -> Section:
    """Return a section whose sentences name flags in place of parameters."""
    return replace(section, sentences=[in_flags(sentence, "scan") for sentence in section.sentences])
