"""A finished cell is read as it was written, or refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from ks_lottery import UserError
from ks_lottery.store.cells import Cells, FinishedCell

KEY = "0" * 64
CELL = FinishedCell(
    recipe="selectors", about={"system": "ks", "size": 18}, figures={"accuracy": 0.1 + 0.2}, conditions={"threads": 2}
)


def test_a_cell_is_read_as_it_was_written(tmp_path):
    Cells(tmp_path / "cells").write(KEY, CELL)
    assert Cells(tmp_path / "cells").read(KEY) == CELL
    assert Cells(tmp_path / "cells").read("1" * 64) is None


def test_without_a_folder_nothing_is_kept_and_results_cells_is_used_where_it_exists():
    Cells().write(KEY, CELL)
    assert Cells().read(KEY) is None
    assert list(Path.cwd().iterdir()) == []
    Path("results/cells").mkdir(parents=True)
    Cells().write(KEY, CELL)
    assert Path(f"results/cells/{KEY}.json").is_file()
    assert Cells().read(KEY) == CELL


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda text: text.replace("0.30000000000000004", "0.4"), "was changed since"),
        (lambda text: text.replace('"kind": "cell"', '"kind": "tickets"'), "is not a cell file"),
        (lambda text: "<<<<<<< HEAD\n" + text, "is not valid JSON"),
        (lambda text: "[]", "not an object"),
        (lambda text: text.replace(KEY, "1" * 64), "was changed since"),
        (lambda text: '{"kind": "cell", "format": 99}', "newer ks-lottery"),
    ],
)
def test_a_cell_that_was_changed_is_refused_by_the_name_of_its_file(tmp_path, change, problem):
    cells = Cells(tmp_path)
    cells.write(KEY, CELL)
    path = cells.path(KEY)
    path.write_text(change(path.read_text()))
    with pytest.raises(UserError, match=problem) as caught:
        cells.read(KEY)
    assert path.name in str(caught.value)


def test_a_file_is_no_folder_of_cells(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="is a file"):
        Cells(tmp_path / "file")
