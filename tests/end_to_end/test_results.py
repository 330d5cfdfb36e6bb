"""The committed cells: each is whole, named by its key, and made of public models."""

from __future__ import annotations

from pathlib import Path

from ks_lottery.store.cells import Cells

FOLDER = Path(__file__).parents[2] / "results" / "cells"


def test_every_committed_cell_is_whole_and_names_a_public_model():
    cells, keys = Cells(FOLDER), [file.stem for file in FOLDER.glob("*.json")]
    assert keys
    for key in keys:
        cell = cells.read(key)
        assert cell is not None
        assert cell.about["model"] in {"asset:smollm2-135m-instruct", "asset:gemma3-270m"}
