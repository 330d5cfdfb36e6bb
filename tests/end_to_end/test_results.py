"""The committed results: each cell is whole and of a public model, and the tables are those that the cells make."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

import pytest

import ks_lottery
from ks_lottery.store.cells import Cells
from ks_lottery.store.files import read_json

RESULTS = Path(__file__).parents[2] / "results"
CELLS = RESULTS / "cells"
SMOLLM2, GEMMA = "asset:smollm2-135m-instruct", "asset:gemma3-270m"
TABLES = sorted(folder.name for folder in RESULTS.iterdir() if folder.name.endswith("-smollm2"))
DATA = os.environ.get("KS_LOTTERY_RECIPE_DATA")
"""Folder with NTREX-128 and FLORES (`benchmarks/recipe_text.py`)."""


def test_every_committed_cell_is_whole_and_names_a_public_model():
    cells, keys = Cells(CELLS), [file.stem for file in CELLS.glob("*.json")]
    assert keys
    for key in keys:
        cell = cells.read(key)
        assert cell is not None
        assert cell.about["model"] in {SMOLLM2, GEMMA}


def test_every_table_is_made_of_committed_cells():
    made = {key for manifest in RESULTS.glob("*/manifest.json") for key in read_json(manifest)["made_from"]["cells"]}
    assert made <= {file.stem for file in CELLS.glob("*.json")}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    if DATA is None:
        pytest.skip("KS_LOTTERY_RECIPE_DATA does not name the folder of NTREX-128 and FLORES")
    folder = tmp_path_factory.mktemp("text")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["recipe_text.py", DATA, str(folder)])
        runpy.run_path(str(RESULTS.parent / "benchmarks" / "recipe_text.py"), run_name="__main__")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_the_committed_tables_are_what_the_cells_make(name, text, tmp_path):
    """Made anew from the cells and the texts, every table has the committed bytes."""
    settings = read_json(RESULTS / name / "manifest.json")["settings"]
    settings |= {part: str(text / Path(settings[part]).name) for part in ("train", "data")}
    made = ks_lottery.reproduce(**{**settings, "finished": True}, cells=CELLS, store=tmp_path / "store")
    folder = made.save(tmp_path / "out")
    committed = [file for file in (RESULTS / name).iterdir() if file.suffix in {".csv", ".json", ".md", ".tex", ".txt"}]
    assert len(committed) > 4
    for file in committed:
        if file.name != "manifest.json":  # it has the versions of packages
            assert (folder / file.name).read_bytes() == file.read_bytes(), file.name
