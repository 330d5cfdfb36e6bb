"""A recipe makes each stage once: in two processes, after a kill, after damage; and not at all where its cells are there."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from ks_lottery import UserError
from ks_lottery.recipes.stage import Cell, Cost, Made, Recipe, Stage
from ks_lottery.recipes.stored import StoredRecipe
from ks_lottery.report.screen import Screen
from ks_lottery.report.section import Section
from ks_lottery.store.cells import Cells
from ks_lottery.store.objects import ObjectStore

CONDITIONS = {"threads": 1, "dtype": "float32", "device": "cpu", "versions": {}}


class Workshop:
    """Letters of a text are sorted and counted; each stage writes its name into a file when it works."""

    def __init__(self, folder: Path, text: str = "banana") -> None:
        self.folder, self.text = folder, text
        self.code, self.conditions, self.pause = 1, CONDITIONS, 0.0

    def recipe(self):
        letters = Stage(
            name="letters", title="letters", make=partial(self.make, "letters", self.letters), inputs={"text": "text"},
            kind="sort", code=self.code, cost=lambda: Cost(pace="read", tokens=len(self.text)),
        )  # fmt: skip
        count = Stage(
            name="count", title="count", make=partial(self.make, "count", self.count), inputs={"letters": "letters"}
        )
        return Recipe(
            name="letters", stages=(letters, count), inputs={"text": self.text},
            cells=(Cell(stage="count", about={"system": "count"}),),
            report=lambda cells: [Section(sentences=[str(cells[0].figures["count"])])],
        )  # fmt: skip

    def make(self, name, work_of, work):
        with (self.folder / "made.txt").open("a") as log:
            log.write(f"{name}\n")
        work_of(work)
        return Made(files=[])

    def letters(self, work):
        (work.folder / "half.txt").write_text("x")
        work.unfinished.mkdir(parents=True, exist_ok=True)
        (work.unfinished / f"try-{os.getpid()}").write_text("x")
        time.sleep(self.pause)
        (work.folder / "letters.txt").write_text("".join(sorted(self.text)))

    def count(self, work):
        text = (work.inputs["letters"] / "letters.txt").read_text()
        (work.folder / "figures.json").write_text(json.dumps({"count": len(text)}))

    def stored(self, *, store="store", cells="cells"):
        return StoredRecipe(
            recipe=self.recipe(), store=ObjectStore(self.folder / store), cells=Cells(self.folder / cells),
            conditions=self.conditions, arguments={"text": self.text},
        )  # fmt: skip

    def execute(self, **places):
        """Return the figures of the cell, and the stages that worked."""
        before = self.made()
        (cell,) = self.stored(**places).execute(Screen(0, Console(file=io.StringIO())))
        return cell.figures, self.made()[len(before) :]

    def made(self):
        log = self.folder / "made.txt"
        return log.read_text().splitlines() if log.is_file() else []


@pytest.fixture
def workshop(tmp_path):
    return Workshop(tmp_path)


def test_stages_are_made_once_and_cells_are_read_as_done(workshop):
    assert workshop.execute() == ({"count": 6}, ["letters", "count"])
    assert workshop.execute() == ({"count": 6}, [])
    assert workshop.execute(cells="others") == ({"count": 6}, [])


def test_a_lost_store_with_cells_computes_nothing_and_is_not_made(workshop):
    workshop.execute()
    assert workshop.execute(store="lost") == ({"count": 6}, [])
    assert not (workshop.folder / "lost").exists()


def test_a_cell_is_called_as_the_recipe_calls_it_now(workshop):
    """The same model under another path is the same cell, and its rows must not fall apart in a table."""
    workshop.execute()
    stored = workshop.stored(store="lost")
    (cell,) = stored.recipe.cells
    renamed = replace(stored.recipe, cells=(replace(cell, about={"system": "renamed"}),))
    (read,) = replace(stored, recipe=renamed).execute(Screen(0, Console(file=io.StringIO())))
    assert (read.about, read.figures) == ({"system": "renamed"}, {"count": 6})


def test_cells_of_another_machine_are_read_as_done_but_not_those_of_another_type_or_code(workshop):
    workshop.execute()
    workshop.conditions = {**CONDITIONS, "threads": 8, "device": "cuda", "versions": {"torch": "9"}}
    assert workshop.execute(store="other")[1] == []
    workshop.code = 2
    assert workshop.execute(store="other")[1] == ["letters", "count"]
    workshop.conditions = {**workshop.conditions, "dtype": "bfloat16"}
    assert workshop.execute(store="other")[1] == ["letters", "count"]


def test_a_stage_whose_inputs_have_the_same_content_is_not_made_again(workshop):
    workshop.execute()
    workshop.text = "nabana"
    assert workshop.execute() == ({"count": 6}, ["letters"])


@pytest.mark.parametrize("damage", ["changed", "gone", "manifest"])
def test_a_damaged_object_is_made_again(workshop, damage):
    workshop.execute()
    stages, _ = ObjectStore(workshop.folder / "store").stages()
    (letters,) = (stage for stage in stages if stage.about["stage"] == "sort")
    file = letters.folder / ("manifest.json" if damage == "manifest" else "letters.txt")
    file.write_text("7") if damage != "gone" else file.unlink()
    assert workshop.execute(cells="others") == ({"count": 6}, ["letters"])


def test_the_time_of_a_stage_begins_after_it_was_prepared(workshop):
    recipe = workshop.recipe()
    slow = [replace(stage, prepare=lambda: time.sleep(0.5)) for stage in recipe.stages]
    replace(workshop.stored(), recipe=replace(recipe, stages=tuple(slow))).execute(
        Screen(0, Console(file=io.StringIO()))
    )
    assert all(stage.about["seconds"] < 0.5 for stage in ObjectStore(workshop.folder / "store").stages()[0])


def test_a_manifest_says_what_made_the_object(workshop):
    workshop.execute()
    sort, count = sorted(ObjectStore(workshop.folder / "store").stages()[0], key=lambda stage: -stage.about["tokens"])
    assert (sort.about["recipe"], sort.about["pace"], sort.about["tokens"]) == ("letters", "read", 6)
    assert sort.about["inputs"] == {"text": {"key": None, "digest": "banana"}}
    assert count.about["inputs"] == {"letters": {"key": sort.key, "digest": sort.digest}}
    assert count.about["conditions"] == CONDITIONS
    assert count.sources == {sort.key}


PROGRAM = """
import importlib.util, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("workshop", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
workshop = module.Workshop(Path(sys.argv[2]))
workshop.pause = float(sys.argv[3])
print(workshop.execute(cells=sys.argv[4])[0]["count"], flush=True)
"""


def start(folder, pause, cells):
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, __file__, str(folder), str(pause), cells], stdout=subprocess.PIPE, text=True
    )


def test_two_processes_at_once_make_one_object(workshop):
    processes = [start(workshop.folder, 1.0, f"cells-{number}") for number in range(2)]
    assert [process.communicate()[0] for process in processes] == ["6\n", "6\n"]
    assert sorted(workshop.made()) == ["count", "letters"]
    assert all((workshop.folder / f"cells-{number}").is_dir() for number in range(2))


def test_kill_9_in_the_middle_of_a_stage_leaves_nothing_that_is_taken_for_an_object(workshop):
    process = start(workshop.folder, 600.0, "cells")
    unfinished = workshop.folder / "store" / "unfinished"
    while not list(unfinished.glob("*/try-*")):
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    store = ObjectStore(workshop.folder / "store")
    assert store.keys() == []
    # What the stage saved to resume from is there for the next try, and goes when it is done.
    assert list(unfinished.glob("*/try-*"))
    assert workshop.execute() == ({"count": 6}, ["letters", "count"])
    assert list(unfinished.iterdir()) == []
    names = {path.name for path in (store.root / "objects").iterdir()}
    assert names == set(store.keys())


def test_a_damaged_cell_is_named_before_anything_is_made(workshop):
    workshop.execute()
    (cell,) = (workshop.folder / "cells").iterdir()
    cell.write_text(cell.read_text().replace('"count": 6', '"count": 7'))
    with pytest.raises(UserError, match="was changed since it was written"):
        workshop.execute(store="lost")
    assert workshop.made() == ["letters", "count"]
