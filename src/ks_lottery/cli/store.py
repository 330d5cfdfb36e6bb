"""The command `store`: the finished stages that recipes are made from."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ks_lottery.cli.streams import write

if TYPE_CHECKING:
    from ks_lottery.config.recipe_commands import StoreSettings


def run(settings: StoreSettings) -> int:
    """Run the command and return its exit code: 1 when verify finds damage."""
    from ks_lottery.recipes.store_report import DAY, explain_stage, prunable, stored_stages
    from ks_lottery.report.screen import Screen
    from ks_lottery.store.files import to_json
    from ks_lottery.store.objects import ObjectStore

    screen, store = Screen(), ObjectStore(settings.store)
    if settings.action == "explain":
        if settings.json:
            stage = store.open(store.key_of(settings.key or ""))
            write(to_json({"key": stage.key, **stage.about}))
        else:
            screen.show(explain_stage(store, settings.key or ""))
        return 0
    if settings.action == "prune":
        report = prunable(store, older_than=settings.older_than, all=settings.all)
        if settings.yes:
            before = time.time() - settings.older_than * DAY
            store.remove([*(stage.key for stage in report.stages), *report.damaged], before=before)
    else:
        report = stored_stages(store, verify=settings.action == "verify")
    if settings.json:
        write(to_json(report.as_dict()))
    else:
        screen.show(report.sections())
        if settings.action == "prune":
            screen.say(
                "Removed." if settings.yes else "Nothing was removed: the same command with --yes removes these."
            )
        elif settings.action == "verify":
            screen.say(
                "Every file is as it was written." if not report.damaged else "Recipes make damaged stages again."
            )
    return 1 if settings.action == "verify" and report.damaged else 0
