"""Which packages are installed, against the ranges that this package's own metadata states; nothing is imported for it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from typing import Literal

from ks_lottery.errors import UserError

PACKAGE = "ks-lottery"

State = Literal["ok", "missing", "out of range"]


@dataclass(frozen=True, kw_only=True)
class Installed:
    """A package that this one requires, or that an extra does.

    Parameters
    ----------
    name
        Name of the package.
    version
        Version that is installed; None where it is missing.
    wanted
        Range of versions, such as ``<3,>=2``; empty for any.
    extra
        Extra that requires it; empty for one that is always required.
    state
        Whether the version is in the range.
    """

    name: str
    version: str | None
    wanted: str
    extra: str
    state: State

    @property
    def remedy(self) -> str:
        """Command that installs it; empty where nothing is wrong."""
        if self.state == "ok":
            return ""
        return f'pip install "{PACKAGE}[{self.extra}]"' if self.extra else f'pip install "{self.name}{self.wanted}"'


def own_version() -> str:
    """Return the version of this package.

    Raises
    ------
    UserError
        When it is not installed, and so has no metadata.
    """
    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError as error:
        raise UserError(f"{PACKAGE} is not installed, so that nothing says what it requires: pip install .") from error


def requirements() -> list[Installed]:
    """Return each package that this one requires on this machine, those of its extras too, as the metadata names them.

    Raises
    ------
    UserError
        When this package is not installed.
    """
    from packaging.requirements import Requirement

    own_version()
    listed: dict[tuple[str, str], Installed] = {}
    extras = metadata.metadata(PACKAGE).get_all("Provides-Extra") or []
    for text in metadata.requires(PACKAGE) or []:
        wanted = Requirement(text)
        for extra in ("", *extras):
            applies = wanted.marker is None or wanted.marker.evaluate({"extra": extra})
            if not applies or (extra and (wanted.name, "") in listed):
                continue
            version = _version(wanted.name)
            state: State = (
                "missing" if version is None
                else "ok" if wanted.specifier.contains(version, prereleases=True)
                else "out of range"
            )  # fmt: skip
            listed[wanted.name, extra] = Installed(
                name=wanted.name, version=version, wanted=str(wanted.specifier), extra=extra, state=state
            )
    return list(listed.values())


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
