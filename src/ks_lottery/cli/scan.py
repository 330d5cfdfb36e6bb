"""The command `scan`: what fine-tuning changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ks_lottery.cli.streams import write

if TYPE_CHECKING:
    from ks_lottery.config.ticket_commands import ScanSettings


def run(settings: ScanSettings) -> int:
    """Run the command and return its exit code: 1 when a unit is above ``--fail-above``."""
    from ks_lottery.checkpoint.page_cache import fill_page_cache
    from ks_lottery.checkpoint.tensors import EMBEDDING_NAMES, HEAD_NAMES

    whole = settings.units in {"matrix-rows", "all"}
    fill_page_cache(settings.base, settings.tuned, modules=() if whole else EMBEDDING_NAMES + HEAD_NAMES)
    # Imported only now: the disk reads meanwhile.
    from ks_lottery.report.screen import Screen
    from ks_lottery.store.files import to_json
    from ks_lottery.tickets.blocks import process_rank
    from ks_lottery.tickets.compare import compare
    from ks_lottery.tickets.power import check_alpha

    check_alpha(settings.alpha)
    screen, first = Screen(), process_rank() == 0
    with screen.stage("scan", silent=settings.quiet or settings.json or not first) as tick:
        result = compare(
            settings.base,
            settings.tuned,
            units=settings.units,
            tensors=settings.tensors,
            alpha=settings.alpha,
            compare_as=settings.compare_as,
            ignore_tokenizer=settings.ignore_tokenizer,
            tick=tick,
        )
    if first:  # of several processes, one writes and prints for all
        shown: dict[str, Any] = {"alpha": settings.alpha, "correction": settings.correction, "top": settings.top}
        content = to_json(result.as_dict(**shown)) if settings.json else ""
        sections = [] if settings.quiet or settings.json else result.sections(**shown)
        if settings.out:
            result.save(settings.out)
        write(content)
        screen.show(sections)
        if settings.out and sections:
            screen.say(f"Every unit lies in {settings.out}.")
    return 1 if result.has_statistic_above(settings.fail_above) else 0
