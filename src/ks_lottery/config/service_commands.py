"""Settings of the commands around the others: doctor, completion and push."""

from __future__ import annotations

from dataclasses import dataclass

from ks_lottery.config.checked import Checked
from ks_lottery.config.choices import SHELLS
from ks_lottery.config.fields import setting


@dataclass(frozen=True, kw_only=True)
class PushSettings(Checked):
    """Settings of the command `push`."""

    folder: str = setting(positional=True, metavar="FOLDER")
    """Folder that export wrote."""
    repo: str = setting(positional=True, metavar="REPO")
    """Repository on the hub, OWNER/NAME; made where it does not exist."""
    private: bool = False
    """Make the repository private; one that exists and is public is refused."""
    branch: str | None = setting(None, metavar="NAME")
    """Branch to upload to, made where it does not exist; the main one, unless given."""
    message: str | None = setting(None, metavar="TEXT")
    """Message of the commit; one that names the format, unless given."""
    dry_run: bool = False
    """List what would be uploaded, without network, and stop."""


@dataclass(frozen=True, kw_only=True)
class DoctorSettings(Checked):
    """Settings of the command `doctor`."""

    json: bool = False
    """Print JSON."""


@dataclass(frozen=True, kw_only=True)
class CompletionSettings(Checked):
    """Settings of the command `completion`."""

    shell: str = setting(positional=True, metavar="SHELL", choices=SHELLS)
    """Shell that the script is for."""
