"""`ks-lottery reproduce all`: every recipe in one run, on a tiny model."""

from __future__ import annotations

import csv

import pytest

from ks_lottery.cli.main import main
from ks_lottery.config.choices import RECIPES
from ks_lottery.store.objects import ObjectStore


@pytest.fixture(scope="module")
def words(narrow_model, text_file, tmp_path_factory):
    root = tmp_path_factory.mktemp("all")
    for language, word in (("ca", "número"), ("de", "Nummer")):
        lines = text_file.read_text(encoding="utf-8").replace("número", word)
        (root / f"en-{language}.tsv").write_text(lines, encoding="utf-8")
    places = ["--store", str(root / "store"), "--cells", str(root / "cells"), "--dtype", "float32", "--device", "cpu"]
    texts = ["--train", str(root / "{source}-{target}.tsv"), "--pairs", "en-ca", "en-de"]
    return root, ["--scale", "smoke", "--model", str(narrow_model), "--seeds", "1", *texts, *places]


@pytest.mark.slow
def test_every_recipe_is_made_and_nothing_of_it_again(words, capfd):
    root, given = words
    out = root / "out"
    assert main(["reproduce", "all", *given, "--out", str(out)]) == 0
    text = (out / "all.txt").read_text(encoding="utf-8")
    made = [name for name in RECIPES if f"Recipe {name}\n" in text]
    assert made == [name for name in RECIPES if name != "all"]
    assert "were left out" not in text
    embed = [
        stage
        for stage in ObjectStore(root / "store").stages()[0]
        if stage.about["stage"] == "tune" and stage.about["settings"]["method"] == "embed"
    ]
    made_from = [str(sorted({**s.about["settings"], **s.about["inputs"]["text"]}.items(), key=str)) for s in embed]
    assert len(set(made_from)) == len(made_from)  # none was made twice
    capfd.readouterr()
    for name in RECIPES:  # the cells of each recipe are there
        assert main(["reproduce", name, *given, "--dry-run"]) == 0
        printed = capfd.readouterr().out
        assert "nothing is computed" in printed, name
    again = root / "table6"
    assert main(["reproduce", "table6", *given, "--out", str(again)]) == 0
    with (again / "table6-1.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["pair"] for row in rows} == {"en-ca", "en-de"}
    assert {row["paper"] for row in rows if row["pair"] == "en-de"} == {"0.81", "0.89", "0.84"}


@pytest.mark.parametrize(
    "scale", ["smoke", *(pytest.param(scale, marks=pytest.mark.slow) for scale in ("small", "paper"))]
)
def test_every_recipe_can_be_planned_at_every_scale(words, capfd, tmp_path, scale):
    given = [*words[1], "--scale", scale, "--store", str(tmp_path / "store"), "--cells", str(tmp_path / "cells")]
    for name in RECIPES:
        assert main(["reproduce", name, *given, "--dry-run"]) == 0, name
        printed = capfd.readouterr().out
        assert "stages are to make" in printed
    assert "was left out" not in printed
    assert not (tmp_path / "store").exists()
