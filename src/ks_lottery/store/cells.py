"""Finished cells of a recipe: each is one small JSON file, which can be committed and is read as done."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_lottery.errors import UserError
from ks_lottery.store.files import read_json, write_text
from ks_lottery.store.manifest import FORMAT, digest_json

if TYPE_CHECKING:
    from collections.abc import Mapping

KIND = "cell"
CELLS = Path("results") / "cells"
"""Folder of the cells in the working directory, which is used where it exists."""


@dataclass(frozen=True, kw_only=True)
class FinishedCell:
    """What was measured of one system, with one seed, on one pair of languages and one model.

    Parameters
    ----------
    recipe
        Recipe that it is a cell of.
    about
        What was measured: model, pair, system, size, seed.
    figures
        The figures, with what each sentence adds to them, so that tables and intervals need nothing else.
    conditions
        How it was computed: threads, type, device, versions.
    """

    recipe: str
    about: Mapping[str, Any]
    figures: Mapping[str, Any]
    conditions: Mapping[str, Any]


class Cells:
    """A folder of finished cells.

    Parameters
    ----------
    folder
        The folder; by default ``results/cells`` in the working directory if that exists. Without one nothing is read or saved.

    Raises
    ------
    UserError
        When it is a file.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        given = CELLS if folder is None and CELLS.is_dir() else folder
        self.folder = None if given is None else Path(given).expanduser()
        if self.folder is not None and self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"`cells`: {self.folder} is a file. Give a folder.")

    def __repr__(self) -> str:
        return f"Cells({self.folder or 'nowhere'})"

    def path(self, key: str) -> Path | None:
        """Return the file of a cell; None where no cells are kept."""
        return None if self.folder is None else self.folder / f"{key}.json"

    def read(self, key: str) -> FinishedCell | None:
        """Return a finished cell; None where there is none.

        Raises
        ------
        UserError
            When its file was changed or damaged since it was written.
        """
        path = self.path(key)
        if path is None or not path.exists():
            return None
        content = read_json(path, KIND)
        parts: dict[str, Any] = {name: content.get(name) for name in ("recipe", "about", "figures", "conditions")}
        typed = [isinstance(value, str if name == "recipe" else dict) for name, value in parts.items()]
        if content.get("key") != key or content.get("digest") != digest_json(parts) or not all(typed):
            raise UserError(
                f"{path} was changed since it was written: get the file again, or remove it to compute the cell again"
            )
        return FinishedCell(**parts)

    def write(self, key: str, cell: FinishedCell) -> None:
        """Save a finished cell, whole or not at all."""
        path = self.path(key)
        if path is None:
            return
        parts = {
            "recipe": cell.recipe, "about": dict(cell.about), "figures": dict(cell.figures),
            "conditions": dict(cell.conditions),
        }  # fmt: skip
        content = {"kind": KIND, "format": FORMAT, "key": key, **parts, "digest": digest_json(parts)}
        lines = [f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in content.items()]
        write_text(path, "{" + ",\n ".join(lines) + "}\n", KIND)  # a line an entry: small, and a change shows
