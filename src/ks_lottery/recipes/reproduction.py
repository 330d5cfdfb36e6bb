"""The noun `Reproduction`: the tables of a recipe and the cells that they were made from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_lottery.report.delimited import to_csv
from ks_lottery.report.latex import to_latex
from ks_lottery.report.markdown import to_markdown
from ks_lottery.report.notebook import Shown
from ks_lottery.report.terminal import to_text
from ks_lottery.store.files import write_text
from ks_lottery.store.manifest import manifest
from ks_lottery.store.work_folder import WorkFolder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ks_lottery.report.section import Section
    from ks_lottery.store.cells import FinishedCell


@dataclass(frozen=True, kw_only=True, repr=False)
class Reproduction(Shown):
    """What a recipe made.

    Parameters
    ----------
    recipe
        Name of the recipe.
    cells
        What was measured.
    keys
        Key of each cell.
    tables
        Tables and sentences.
    arguments
        What the recipe was called with.
    """

    recipe: str
    cells: Sequence[FinishedCell]
    keys: Sequence[str]
    tables: Sequence[Section]
    arguments: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"Reproduction({self.recipe}, {len(self.cells)} cells)"

    def sections(self) -> Sequence[Section]:
        """Return the tables, and what they say."""
        return self.tables

    def save(self, folder: str | Path) -> Path:
        """Write the tables into a new folder: all as text, Markdown and LaTeX, and each as CSV; return the folder.

        Raises
        ------
        UserError
            When it has something else than the same tables, or cannot be written.
        """
        out = Path(folder).expanduser()
        work, about = WorkFolder(out), about_reproduction(self.keys, self.arguments)
        if not work.is_done(about):
            with work.publish(about) as place:
                write_text(place / f"{self.recipe}.txt", to_text(self.tables))
                write_text(place / f"{self.recipe}.md", to_markdown(self.tables))
                write_text(place / f"{self.recipe}.tex", to_latex(self.tables))
                filled = [section for section in self.tables if section.rows]
                for number, section in enumerate(filled, start=1):
                    write_text(place / f"{self.recipe}-{number}.csv", to_csv(section))
        return out


def about_reproduction(keys: Sequence[str], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest of the tables of a recipe.

    Parameters
    ----------
    keys
        Key of each cell.
    arguments
        What the recipe was called with.
    """
    return manifest("reproduction", made_from={"cells": list(keys)}, settings=arguments)
