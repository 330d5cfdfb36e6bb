"""The key of a stage changes with each thing that its numbers depend on, and with nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ks_lottery.recipes.stage import Cell, Made, Recipe, Stage

CONDITIONS = {"threads": 2, "dtype": "float32", "device": "cpu", "versions": {"torch": "2", "numpy": "2"}}
DIGESTS = {"model a": "m", "text a": "t", "other": "o"}


def make(work):
    return Made(files=[])


STAGE = Stage(
    name="embed of a", title="Embed", make=make, inputs={"model": "model a", "text": "text a"}, settings={"seed": 0},
    kind="tune",
)  # fmt: skip


def key(stage=STAGE, digests=DIGESTS, **conditions):
    return stage.key(digests, {**CONDITIONS, **conditions})


@pytest.mark.parametrize(
    "other",
    [
        lambda: key(replace(STAGE, settings={"seed": 1})),
        lambda: key(replace(STAGE, settings={"seed": 0, "epochs": 1})),
        lambda: key(replace(STAGE, kind="scan")),
        lambda: key(replace(STAGE, code=2)),
        lambda: key(replace(STAGE, inputs={"model": "model a", "text": "other"})),
        lambda: key(replace(STAGE, inputs={"model": "text a", "text": "model a"})),
        lambda: key(digests={**DIGESTS, "model a": "n"}),
        lambda: key(digests={**DIGESTS, "text a": "u"}),
        lambda: key(threads=1),
        lambda: key(dtype="bfloat16"),
        lambda: key(device="cuda"),
        lambda: key(versions={"torch": "3", "numpy": "2"}),
    ],
)
def test_each_ingredient_changes_the_key(other):
    assert other() != key()


def test_names_and_titles_do_not():
    """Two recipes that call the same work otherwise share its result."""
    assert key(replace(STAGE, name="x", title="y", cost=None)) == key()
    renamed = replace(STAGE, inputs={"model": "model b", "text": "text b"})
    assert key(renamed, {"model b": "m", "text b": "t"}) == key()


def test_planned_keys_are_known_before_anything_is_made_and_change_with_all_that_comes_before():
    def planned(text="t", seed=0, **conditions):
        first = Stage(name="first", title="", make=make, inputs=["text"], settings={"seed": seed})
        second = Stage(name="second", title="", make=make, inputs={"from": "first"})
        recipe = Recipe(stages=(first, second), inputs={"text": text})
        return recipe.planned_keys({"dtype": "float32", **conditions})["second"]

    assert planned() == planned()
    assert len({planned(), planned(text="u"), planned(seed=1), planned(dtype="bfloat16")}) == 4


def test_a_cell_needs_a_stage():
    with pytest.raises(ValueError, match="no stages"):
        Recipe(stages=(), cells=(Cell(stage="measure", about={}),))
