"""What `reproduce` returns and saves: the cells of a recipe, its tables, and what its figures show."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_lottery.report.delimited import to_csv
from ks_lottery.report.drawing import can_draw, draw
from ks_lottery.report.latex import to_latex
from ks_lottery.report.markdown import to_markdown
from ks_lottery.report.notebook import Shown
from ks_lottery.report.terminal import to_text
from ks_lottery.store.files import write_json, write_text
from ks_lottery.store.manifest import manifest
from ks_lottery.store.work_folder import WorkFolder
from ks_lottery.store.workspace import workspace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ks_lottery.report.chart import Chart
    from ks_lottery.report.section import Section
    from ks_lottery.store.cells import FinishedCell

TABLES_FILE = "tables.json"
"""File of the tables with their raw values, which the report is made from."""


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
    charts
        What its figures show.
    """

    recipe: str
    cells: Sequence[FinishedCell]
    keys: Sequence[str]
    tables: Sequence[Section]
    arguments: Mapping[str, Any]
    charts: Sequence[Chart] = ()

    def __repr__(self) -> str:
        return f"Reproduction({self.recipe}, {len(self.cells)} cells)"

    def sections(self) -> Sequence[Section]:
        """Return the tables, and what they say."""
        return self.tables

    def save(self, folder: str | Path) -> Path:
        """Write the tables into a new folder: all as text, Markdown, LaTeX and JSON, and each as CSV; return the folder.

        Figures are written as SVG, PDF and PNG where matplotlib is installed (`can_draw`), also into a folder that has the
        tables already.

        Raises
        ------
        UserError
            When it has something else than the same tables, or cannot be written.
        """
        out = Path(folder).expanduser()
        work, about = WorkFolder(out), about_of(self.keys, self.arguments)
        if not work.is_done(about):
            with work.publish(about) as place:
                write_json(place / TABLES_FILE, {"tables": [section.as_dict() for section in self.tables]})
                write_text(place / f"{self.recipe}.txt", to_text(self.tables))
                write_text(place / f"{self.recipe}.md", to_markdown(self.tables))
                write_text(place / f"{self.recipe}.tex", to_latex(self.tables))
                filled = [section for section in self.tables if section.rows]
                for number, section in enumerate(filled, start=1):
                    write_text(place / f"{self.recipe}-{number}.csv", to_csv(section))
        missing = [chart for chart in self.charts if not (out / f"{chart.name}.png").exists()]
        if missing and can_draw():
            with workspace(out) as place:
                for file in [file for chart in missing for file in draw(chart, place)]:
                    file.replace(out / file.name)
        return out


def about_of(keys: Sequence[str], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest of the folder of tables: keys of the cells, and what the recipe was called with."""
    return manifest("reproduction", made_from={"cells": list(keys)}, settings=arguments)
