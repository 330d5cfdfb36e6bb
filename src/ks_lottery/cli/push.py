"""The command `push`: an export, uploaded to the hub."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ks_lottery.config.service_commands import PushSettings


def run(settings: PushSettings) -> int:
    """Run the command and return its exit code."""
    from ks_lottery.models.hub_upload import push
    from ks_lottery.report.screen import Screen

    screen = Screen()
    pushed = push(
        settings.folder, settings.repo, private=settings.private, branch=settings.branch, message=settings.message,
        dry_run=settings.dry_run, tell=lambda plan: screen.show(plan.sections()),
    )  # fmt: skip
    screen.say("Nothing was uploaded." if pushed.address is None else f"Uploaded to {pushed.address}")
    return 0
