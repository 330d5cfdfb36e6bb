"""A stage is made again exactly when its settings, the content of its inputs or one of its files changed."""

from __future__ import annotations

import io
from functools import partial

import pytest
from rich.console import Console

from ks_lottery.recipes.executor import execute
from ks_lottery.recipes.stage import Made, Recipe, Stage
from ks_lottery.report.screen import Screen
from ks_lottery.store.run_folder import RunFolder


class Kitchen:
    """A recipe of three stages over one text: letters sorted, letters counted, and both together."""

    def __init__(self, folder):
        self.folder = RunFolder(folder)
        self.text = "banana"
        self.settings = {}
        self.made: list[str] = []

    def stage(self, name, work, *inputs):
        return Stage(name=name, title=name, make=partial(self.make, name, work), inputs=inputs, settings=self.settings)

    def make(self, name, work, tick):
        self.made.append(name)
        file = self.folder.path / f"{name}.txt"
        file.write_text(work())
        return Made(files=[file], log=[f"wrote {name}"])

    def read(self, name):
        return (self.folder.path / f"{name}.txt").read_text()

    def execute(self):
        """Execute, and return the stages that were made."""
        self.made.clear()
        recipe = Recipe(
            inputs={"text": self.text},
            stages=(
                self.stage("letters", lambda: "".join(sorted(self.text)), "text"),
                self.stage("count", lambda: str(len(self.read("letters"))), "letters"),
                self.stage("both", lambda: self.read("letters") + self.read("count"), "letters", "count"),
            ),
        )
        self.folder.path.mkdir(exist_ok=True)
        execute(recipe, self.folder, Screen(3, Console(file=io.StringIO())))
        return list(self.made)


@pytest.fixture
def kitchen(tmp_path):
    return Kitchen(tmp_path / "run")


def test_nothing_is_made_twice(kitchen):
    assert kitchen.execute() == ["letters", "count", "both"]
    assert kitchen.execute() == []
    assert kitchen.read("both") == "aaabnn6"


def test_another_input_is_made_again_as_far_as_it_changes_something(kitchen):
    kitchen.execute()
    kitchen.text = "nabana"  # the same letters: the first stage runs, and what it writes is the same
    assert kitchen.execute() == ["letters"]
    kitchen.text = "bananas"
    assert kitchen.execute() == ["letters", "count", "both"]
    assert kitchen.read("both") == "aaabnns7"


def test_another_setting_is_another_key(kitchen):
    kitchen.execute()
    kitchen.settings = {"language": "ca"}
    assert kitchen.execute() == ["letters", "count", "both"]


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_a_damaged_file_is_made_again(kitchen, damage):
    kitchen.execute()
    file = kitchen.folder.path / "count.txt"
    file.write_text("7") if damage == "changed" else file.unlink()
    assert kitchen.execute() == ["count"]
    assert kitchen.read("both") == "aaabnn6"


def test_another_version_of_a_package_is_another_key(kitchen, monkeypatch):
    kitchen.execute()
    monkeypatch.setattr("ks_lottery.recipes.stage.versions", lambda: {"ks-lottery": "99"})
    assert kitchen.execute() == ["letters", "count", "both"]


def test_the_log_has_every_stage_in_the_order_of_the_recipe(kitchen):
    kitchen.execute()
    (kitchen.folder.path / "letters.txt").unlink()
    kitchen.execute()
    assert (kitchen.folder.path / "log.txt").read_text() == (
        "letters: wrote letters\ncount: wrote count\nboth: wrote both\n"
    )


def test_a_recipe_whose_stages_are_out_of_order_is_no_recipe():
    def stage(name, *inputs):
        return Stage(name=name, title=name, make=lambda tick: Made(files=[]), inputs=inputs)

    with pytest.raises(ValueError, match="stage one reads"):
        Recipe(stages=(stage("one", "two"), stage("two")))
    with pytest.raises(ValueError, match="its name is taken"):
        Recipe(stages=(stage("one"), stage("one")))
