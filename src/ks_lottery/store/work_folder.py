"""The folder of a command's result, and the one beside it in which the unfinished work of one process lies."""

from __future__ import annotations

import re
import shutil
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from ks_lottery.config.keys import changed
from ks_lottery.errors import UserError, shortened
from ks_lottery.store.files import new_folder, read_json, write_error, write_json
from ks_lottery.store.locks import file_lock
from ks_lottery.store.manifest import with_article
from ks_lottery.store.workspace import is_workspace, sweep, sweep_beside, workspace

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from pathlib import Path

MANIFEST_FILE = "manifest.json"
BEGUN_FILE = "begun.json"
"""Manifest of the unfinished work: the same work resumes, other work is refused."""

LOCK_FILE = ".lock"

LISTED = ("export",)
"""Kinds of results whose manifest lists their files, so that nothing else is taken for a part of them."""


class WorkFolder:
    """A result that is written whole or not at all, and work that resumes where it stopped.

    Parameters
    ----------
    out
        Folder of the result.

    Attributes
    ----------
    unfinished
        Folder of the work until it is done, beside `out`.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.unfinished = out.with_name(f"{out.name}.unfinished")

    def is_done(self, manifest: Mapping[str, Any], given: Mapping[str, Any] | None = None) -> bool:
        """Say whether the result exists already, made from the same things by the same settings.

        What a process that was killed after its last rename left beside the result is then removed.

        Parameters
        ----------
        manifest
            What `ks_lottery.store.manifest.manifest` makes.
        given
            Names of the contents by parameter, such as the file of a text, for errors.

        Raises
        ------
        UserError
            When the folder holds another result, naming the first difference, or something else.
        """
        there = self.check_kind(manifest["kind"])
        if there is None:
            return False
        _check_same(self.out, there, manifest, given or {})
        self._remove_unfinished(manifest)
        sweep_beside(self.out)
        return True

    def check_kind(self, kind: str) -> dict[str, Any] | None:
        """Refuse a folder that holds anything but a result of this kind, before anything is computed for it.

        Returns
        -------
        dict or None
            Manifest of the result that the folder holds; None for a folder that is empty or does not exist.

        Raises
        ------
        UserError
            When the folder holds something else.
        """
        if not self.out.exists() or (self.out.is_dir() and not any(self.out.iterdir())):
            return None
        if not (self.out / MANIFEST_FILE).is_file():
            raise UserError(f"{self.out} exists and is not the folder of {with_article(kind)}: give another `out`")
        return read_json(self.out / MANIFEST_FILE, kind)

    @contextmanager
    def claimed(
        self, manifest: Mapping[str, Any], threads: int | None = None, given: Mapping[str, Any] | None = None
    ) -> Generator[Path]:
        """Make the folder of the unfinished work, and keep it for this process inside a block.

        Parameters
        ----------
        threads
            Threads that compute; saved when the work begins, for `threads_before`.
        given
            Names of the contents by parameter; saved when the work begins, for errors.

        Raises
        ------
        UserError
            When another process works in it, other work was begun there, it holds files of somebody else, or it cannot be
            written.
        """
        begun = self.unfinished / BEGUN_FILE
        with locked_folder(self.unfinished, marker=BEGUN_FILE):
            if begun.is_file():
                _check_same(self.unfinished, read_json(begun, manifest["kind"]), manifest, given or {})
            else:
                write_json(begun, {**manifest, "threads": threads, "given": dict(given or {})})
            yield self.unfinished

    def threads_before(self) -> int | None:
        """Return the threads that the unfinished work began with; None where none is there."""
        begun = self.unfinished / BEGUN_FILE
        return read_json(begun).get("threads") if begun.is_file() else None

    @contextmanager
    def publish(self, manifest: Mapping[str, Any], *, keep: Sequence[str] = ()) -> Generator[Path]:
        """Yield a folder that becomes the result when the block ends well; the unfinished work is then removed.

        Parameters
        ----------
        keep
            Folders of the unfinished work that the result contains too, where they exist.
        """
        with new_folder(self.out) as folder:
            yield folder
            for name in keep:
                if (self.unfinished / name).is_dir():
                    shutil.copytree(self.unfinished / name, folder / name)
            files = {"files": sorted(path.name for path in folder.iterdir())} if manifest["kind"] in LISTED else {}
            write_json(folder / MANIFEST_FILE, {**manifest, **files})
        self._remove_unfinished(manifest)

    def _remove_unfinished(self, manifest: Mapping[str, Any]) -> None:
        """Remove the unfinished work if it is this work: it becomes a workspace first, so that a kill leaves nothing behind."""
        begun = self.unfinished / BEGUN_FILE
        if not begun.is_file():
            return
        there = read_json(begun)
        if all(there.get(part) == manifest[part] for part in ("kind", "made_from", "settings")):
            with suppress(OSError), workspace(self.unfinished) as place:
                self.unfinished.rename(place / self.unfinished.name)


@contextmanager
def locked_folder(folder: Path, *, marker: str | None = None) -> Generator[None]:
    """Make a folder, and keep it for this process inside a block; what killed processes left half-written there is removed.

    Parameters
    ----------
    marker
        File by which a folder says that it is ours: without it, one that holds anything is refused. None checks nothing.

    Raises
    ------
    UserError
        When another process works in it, it is not ours, or it cannot be written.
    """
    try:
        if marker is not None and folder.exists() and not (folder / marker).exists() and not is_empty(folder):
            raise UserError(f"{folder} exists and was not written by ks-lottery: give another `out`, or remove it")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / LOCK_FILE).touch()  # a folder that cannot be written is refused now, not after the work
    except OSError as error:
        raise write_error(folder, error) from error
    with file_lock(folder / LOCK_FILE, wait=False) as held:
        if not held:
            raise UserError(f"another process works in {folder}: wait for it, or give another `out`")
        sweep(folder)
        yield


def remove_if_empty(folder: Path) -> None:
    """Remove a folder that holds nothing but a lock."""
    with suppress(OSError):
        if is_empty(folder):
            (folder / LOCK_FILE).unlink(missing_ok=True)
            folder.rmdir()


def other_threads(before: int, now: int) -> str:
    """Return what a user must know of work that resumes with another number of threads."""
    return (
        f"This work began with {before} threads and resumes with {now}: sums are rounded in another order, so the result may "
        "differ in its last bits from that of an unbroken run."
    )


def is_empty(folder: Path) -> bool:
    """Say whether a folder holds nothing but a lock and what a killed process left half-written; a file is not empty."""
    return folder.is_dir() and all(path.name == LOCK_FILE or is_workspace(path.name) for path in folder.iterdir())


SOURCES = {"base": "model", "text": "train", "rows": "tickets", "validation": "validation"}
"""Key of a manifest whose value is the digest of a content, to the parameter that the content was given by."""

DIGEST = re.compile("[0-9a-f]{64}")


def _check_same(folder: Path, there: Mapping[str, Any], here: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Refuse work of other content or other settings, naming the first parameter that differs, and both values."""
    for part in ("made_from", "settings"):
        old, new = there.get(part) or {}, here[part]
        differing = [key for key in {**old, **new} if old.get(key) != new.get(key)]
        if differing:
            said = _changed(differing[0], old, new, there.get("given") or {}, given)
            raise UserError(f"{folder} was made by another command: {said}. Give another `out`, or remove it")


def _changed(
    key: str, old: Mapping[str, Any], new: Mapping[str, Any], given_there: Mapping[str, Any], given: Mapping[str, Any]
) -> str:
    """Return a parameter with its two values; contents have the names that they were given by, and no digest."""
    name = SOURCES.get(key, key)
    values = [old.get(key), new.get(key)]
    if not any(_is_digest(value) for value in values):
        return changed(f"`{name}`", {f"`{name}`": values[0]}, {f"`{name}`": values[1]})
    names = [
        value.get("name") if isinstance(value, dict) else None if value is None else words.get(name)
        for value, words in zip(values, (given_there, given), strict=True)
    ]
    if None in values:
        shown = [
            "not set" if value is None else shortened(each or "set") for value, each in zip(values, names, strict=True)
        ]
        return f"`{name}`: {shown[0]} there, {shown[1]} here"
    if None in names or names[0] == names[1]:
        which = "" if names[1] is None else f" ({shortened(names[1])})"
        return f"`{name}`{which} has another content now than it had there"
    return f"`{name}`: {shortened(names[0])} there, {shortened(names[1])} here"


def _is_digest(value: object) -> bool:
    if isinstance(value, dict):
        return "fingerprint" in value
    return isinstance(value, str) and DIGEST.fullmatch(value) is not None
