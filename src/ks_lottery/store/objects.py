"""The store: a folder of finished stages, each named by its key, that several processes use at the same time."""

from __future__ import annotations

import os
import re
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_lottery.errors import UserError
from ks_lottery.store.assets import cache_folder
from ks_lottery.store.files import new_folder, read_json, write_json
from ks_lottery.store.locks import file_lock
from ks_lottery.store.manifest import FORMAT, check_manifest, digest_json
from ks_lottery.store.stored_stage import StoredStage, open_stage, seal_stage
from ks_lottery.store.work_folder import MANIFEST_FILE, is_empty
from ks_lottery.store.workspace import sweep

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

STORE_FILE, USE_KIND = "store.json", "recipe-use"
OBJECTS, LOCKS, UNFINISHED, USES = "objects", "locks", "unfinished", "uses"
KEY = re.compile(r"[0-9a-f]{64}")


def store_folder() -> Path:
    """Return where finished stages are unless that is said: ``$KS_LOTTERY_STORE``, or ``store`` in the cache folder."""
    chosen = os.environ.get("KS_LOTTERY_STORE")
    return Path(chosen).expanduser() if chosen else cache_folder() / "store"


class ObjectStore:
    """A folder of finished stages, which several processes, and machines that share it, use at the same time.

    Parameters
    ----------
    root
        The folder; by default ``$KS_LOTTERY_STORE``, or ``store`` in the cache folder. It is made when something is written.

    Raises
    ------
    UserError
        When it is something else than a store, or was written by a newer version.
    """

    def __init__(self, root: str | Path | None = None) -> None:
        self.root = Path(root).expanduser() if root else store_folder()
        marker = self.root / STORE_FILE
        if marker.is_file():
            check_manifest(marker, read_json(marker), "store")
        elif self.root.exists() and not is_empty(self.root):
            raise UserError(f"{self.root} exists and is not a store of ks-lottery: give another `store`")

    def __repr__(self) -> str:
        return f"ObjectStore({self.root})"

    def folder(self, key: str) -> Path:
        """Return the folder of an object."""
        return self.root / OBJECTS / key

    def unfinished(self, key: str) -> Path:
        """Return the folder in which a stage that takes long saves what lets it resume."""
        return self.root / UNFINISHED / key

    @contextmanager
    def in_use(self) -> Generator[None]:
        """Keep the store from being pruned inside a block; it is made where it is missing."""
        if not (self.root / STORE_FILE).is_file():
            write_json(self.root / STORE_FILE, {"kind": "store", "format": FORMAT})
        with file_lock(self.root / ".lock", shared=True):
            yield

    def open(self, key: str) -> StoredStage:
        """Read the manifest of an object.

        Raises
        ------
        UserError
            When it is missing or damaged.
        """
        return open_stage(self.folder(key))

    def whole(self, key: str) -> StoredStage | None:
        """Return an object whose files are as they were written, and note that it is used; None where it must be made."""
        try:
            stored = self.open(key)
        except UserError:
            return None
        if stored.damage() is not None:
            return None
        with suppress(OSError):  # a store that others own can be read
            os.utime(stored.folder / MANIFEST_FILE)
        return stored

    @contextmanager
    def making(self, key: str, waiting: Callable[[], None] | None = None) -> Generator[None]:
        """Keep a key for this process inside a block; waits for another process that makes the same object.

        Parameters
        ----------
        waiting
            Called once before waiting.
        """
        with file_lock(self.root / LOCKS / f"{key}.lock", waiting=waiting):
            yield

    @contextmanager
    def publishing(self, key: str, about: dict[str, Any]) -> Generator[Path]:
        """Yield an empty folder that becomes the object when the block ends well; nobody sees it before.

        Parameters
        ----------
        about
            What the manifest says, as in `ks_lottery.store.stored_stage.ABOUT`, without ``files``; the block may fill in more.
        """
        target = self.folder(key)
        if target.exists():  # damaged: it loses its manifest first, so that it is never seen in part
            _remove(target)
        try:
            with new_folder(target) as folder:
                yield folder
                seal_stage(folder, key, about)
        except UserError:
            if self.whole(key) is None:  # without locks, another process may have been faster
                raise
        shutil.rmtree(self.unfinished(key), ignore_errors=True)

    def note_use(self, recipe: str, arguments: Mapping[str, Any], keys: Sequence[str]) -> None:
        """Save which objects a recipe uses, for `explain`; the same recipe with the same arguments has one entry."""
        name = digest_json([recipe, dict(arguments)])[:32]
        content = {"kind": USE_KIND, "format": FORMAT, "recipe": recipe, "arguments": dict(arguments)}
        write_json(self.root / USES / f"{name}.json", {**content, "objects": sorted(keys)})

    def uses(self) -> list[dict[str, Any]]:
        """Return what `note_use` saved; entries that are damaged are passed over."""
        entries: list[dict[str, Any]] = []
        for path in sorted((self.root / USES).glob("*.json")):
            with suppress(UserError):
                content = read_json(path, USE_KIND)
                if isinstance(content.get("objects"), list) and isinstance(content.get("recipe"), str):
                    entries.append(content)
        return entries

    def keys(self) -> list[str]:
        """Return the keys of all objects, damaged ones included."""
        folder = self.root / OBJECTS
        return sorted(path.name for path in folder.iterdir() if KEY.fullmatch(path.name)) if folder.is_dir() else []

    def key_of(self, start: str) -> str:
        """Return the one key that begins with `start`.

        Raises
        ------
        UserError
            When no object, or more than one, does.
        """
        fitting = [key for key in self.keys() if key.startswith(start.lower())] if start else []
        if len(fitting) != 1:
            problem = f"{len(fitting)} objects of {self.root} begin" if fitting else f"no object of {self.root} begins"
            remedy = "Give more of the key" if fitting else "ks-lottery store list shows the keys"
            raise UserError(f"key {start!r}: {problem} with it. {remedy}.")
        return fitting[0]

    def stages(self) -> tuple[list[StoredStage], dict[str, str]]:
        """Return the objects, oldest first, and by key what is wrong with each one whose manifest cannot be read."""
        stages: list[StoredStage] = []
        damaged: dict[str, str] = {}
        for key in self.keys():
            try:
                stages.append(self.open(key))
            except UserError as error:
                damaged[key] = str(error)
        return sorted(stages, key=lambda stored: (stored.about["made"], stored.key)), damaged

    def remove(self, keys: Sequence[str], *, before: float = 0.0) -> None:
        """Remove objects, and what killed processes left half-written.

        Parameters
        ----------
        before
            Unfinished work that was begun before is removed too, in seconds since 1970.

        Raises
        ------
        UserError
            When another process uses the store, or an object cannot be removed.
        """
        with file_lock(self.root / ".lock", wait=False) as held:
            if not held:
                raise UserError(f"another process uses the store {self.root}: wait for it, and prune then")
            try:
                for key in keys:
                    _remove(self.folder(key))
                    (self.root / LOCKS / f"{key}.lock").unlink(missing_ok=True)  # nobody waits: nobody uses the store
            except OSError as error:
                raise UserError(f"cannot remove {error.filename}: {error.strerror}. Ask its owner") from error
            unfinished = self.root / UNFINISHED
            for path in list(unfinished.iterdir()) if unfinished.is_dir() else []:
                if path.stat().st_mtime < before:
                    shutil.rmtree(path, ignore_errors=True)
            sweep(self.root)


def _remove(folder: Path) -> None:
    """Remove an object, its manifest first: without it nobody takes the rest for an object."""
    if folder.is_symlink() or not folder.is_dir():
        folder.unlink(missing_ok=True)
        return
    manifest = folder / MANIFEST_FILE
    if manifest.is_dir():
        shutil.rmtree(manifest)
    manifest.unlink(missing_ok=True)
    shutil.rmtree(folder)
