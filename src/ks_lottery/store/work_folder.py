"""The folder of a command's result, and the one beside it in which the unfinished work of one process lies."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ks_lottery.errors import UserError
from ks_lottery.store.files import new_folder, read_json, write_error, write_json

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from pathlib import Path

MANIFEST_FILE = "manifest.json"
BEGUN_FILE = "begun.json"
"""Manifest of the unfinished work: the same work resumes, other work is refused."""

LOCK_FILE = ".lock"


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

    def is_done(self, manifest: Mapping[str, Any]) -> bool:
        """Say whether the result exists already, made from the same things by the same settings.

        Parameters
        ----------
        manifest
            What `ks_lottery.store.manifest.manifest` makes.

        Raises
        ------
        UserError
            When the folder holds another result, naming the first difference, or something else.
        """
        if not self.out.exists() or (self.out.is_dir() and not any(self.out.iterdir())):
            return False
        if not (self.out / MANIFEST_FILE).is_file():
            raise UserError(f"{self.out} exists and is no folder of a {manifest['kind']}: give another `out`")
        _check_same(self.out, read_json(self.out / MANIFEST_FILE, manifest["kind"]), manifest)
        return True

    @contextmanager
    def claimed(self, manifest: Mapping[str, Any]) -> Generator[Path]:
        """Make the folder of the unfinished work, and keep it for this process inside a block.

        Raises
        ------
        UserError
            When another process works in it, other work was begun there, or it cannot be written.
        """
        with locked_folder(self.unfinished):
            begun = self.unfinished / BEGUN_FILE
            if begun.is_file():
                _check_same(self.unfinished, read_json(begun, manifest["kind"]), manifest)
            else:
                write_json(begun, dict(manifest))
            yield self.unfinished

    @contextmanager
    def publish(self, manifest: Mapping[str, Any], *, keep: Sequence[str] = ()) -> Generator[Path]:
        """Yield a folder that becomes the result when the block ends well; the unfinished work is then removed.

        Parameters
        ----------
        keep
            Folders of the unfinished work that the result contains too, where they exist.
        """
        if self.out.is_dir():
            self.out.rmdir()
        with new_folder(self.out) as folder:
            yield folder
            for name in keep:
                if (self.unfinished / name).is_dir():
                    shutil.copytree(self.unfinished / name, folder / name)
            write_json(folder / MANIFEST_FILE, dict(manifest))
        shutil.rmtree(self.unfinished, ignore_errors=True)


@contextmanager
def locked_folder(folder: Path) -> Generator[None]:
    """Make a folder, and keep it for this process inside a block.

    Raises
    ------
    UserError
        When another process works in it, or it cannot be written.
    """
    from filelock import FileLock, Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK_FILE)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(f"another process works in {folder}: wait for it, or give another `out`") from error
    except OSError as error:
        raise write_error(folder, error) from error
    with lock:
        yield


def _check_same(folder: Path, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    for part in ("made_from", "settings"):
        old, new = there[part], here[part]
        changed = [key for key in {**old, **new} if old.get(key) != new.get(key)]
        if changed:
            key = changed[0]
            raise UserError(
                f"{folder} was made by another command: {key} is {old.get(key)!r} there and {new.get(key)!r} here; "
                "give another `out`, or remove it"
            )
