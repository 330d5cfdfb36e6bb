"""What the command `store` shows and removes: stages, their users, damage, and what nobody used for a while."""

from __future__ import annotations

import io
import json
import os
import time

import pytest
from rich.console import Console

from ks_lottery.cli.main import main
from ks_lottery.recipes.store_report import DAY, explain_stage, prunable, stored_stages
from ks_lottery.report.screen import Screen
from ks_lottery.store.objects import ObjectStore

A, B, C, D = (letter * 64 for letter in "abcd")
ABOUT = {
    "stage": "tune", "recipe": "selectors", "code": 3, "settings": {"seed": 5}, "conditions": {"threads": 1}, "seconds": 1.5,
    "tokens": 10, "pace": "train", "made": "2026-01-01T00:00:00+00:00",
}  # fmt: skip


@pytest.fixture
def store(tmp_path):
    """b was made from a, c from b; d stands alone. a and b were used 40 days ago, c and d today."""
    store = ObjectStore(tmp_path / "store")
    for key, sources, days in ((A, (), 40), (B, (A,), 40), (C, (B,), 0), (D, (), 0)):
        inputs = {"text": {"key": None, "digest": "t"}, **{f"in {s[0]}": {"key": s, "digest": s} for s in sources}}
        with store.in_use(), store.publishing(key, {**ABOUT, "title": f"stage {key[0]}", "inputs": inputs}) as folder:
            (folder / "file").write_text(key)
        then = time.time() - days * DAY
        os.utime(store.folder(key) / "manifest.json", (then, then))
    store.note_use("selectors", {"scale": "smoke"}, [A, B, C])
    return store


def text(sections):
    console = Console(file=io.StringIO(), width=200)
    Screen(0, console).show(sections)
    return console.file.getvalue()


def keys(report):
    return "".join(sorted(stage.key[0] for stage in report.stages))


def test_pruning_keeps_what_remaining_stages_were_made_from(store):
    assert keys(prunable(store)) == ""
    assert keys(prunable(store, all=True)) == "ab"
    then = time.time() - 31 * DAY
    os.utime(store.folder(C) / "manifest.json", (then, then))
    assert keys(prunable(store)) == "abc"
    assert keys(prunable(store, older_than=35)) == ""
    assert keys(prunable(store, older_than=0)) == "abcd"


def test_a_stage_that_is_used_counts_as_new(store):
    assert keys(prunable(store, all=True)) == "ab"
    store.whole(A)
    assert keys(prunable(store, all=True)) == "b"


def test_explain_says_what_a_stage_is_from_and_who_uses_it(store):
    shown = text(explain_stage(store, "b"))
    for said in (
        "stage b",
        "code version 3",
        "aaaaaaaaaaaa  stage a",
        "seed",
        "cccccccccccc  stage c",
        "'scale': 'smoke'",
    ):
        assert said in shown
    alone = text(explain_stage(store, "d"))
    assert alone.count("none") == 2


def test_verify_finds_changed_files_and_list_only_damaged_manifests(store, capfd):
    (store.folder(D) / "file").write_text("other")
    (store.folder(A) / "manifest.json").write_text("{")
    assert set(stored_stages(store).damaged) == {A}
    assert set(stored_stages(store, verify=True).damaged) == {A, D}
    where = ["--store", str(store.root)]
    assert main(["store", "verify", *where]) == 1
    shown = capfd.readouterr().out
    assert "dddddddddddd: file has other bytes than were written" in shown
    assert main(["store", "prune", "--yes", *where]) == 0
    assert ObjectStore(store.root).keys() == [B, C, D]


def test_the_command_lists_and_removes_only_when_told(store, capfd):
    where = ["--store", str(store.root)]
    assert main(["store", *where]) == 0
    assert "4 stages, 256 B" in capfd.readouterr().out
    assert main(["store", "list", "--json", *where]) == 0
    assert [stage["key"][0] for stage in json.loads(capfd.readouterr().out)["stages"]] == ["a", "b", "c", "d"]
    assert main(["store", "prune", "--all", *where]) == 0
    assert "Nothing was removed" in capfd.readouterr().out
    assert len(store.keys()) == 4
    assert main(["store", "prune", "--all", "--yes", *where]) == 0
    assert store.keys() == [C, D]
    assert main(["store", "verify", *where]) == 0
    assert "Every file is as it was written" in capfd.readouterr().out
    assert main(["store", "explain", "c", *where]) == 0
    assert "bbbbbbbbbbbb  no longer in the store" in capfd.readouterr().out


def test_pruning_removes_unfinished_work_of_that_age_alone(store):
    old, new = store.unfinished("e" * 64), store.unfinished("f" * 64)
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / "checkpoint").write_text("x")
    then = time.time() - 31 * DAY
    os.utime(old, (then, then))
    assert main(["store", "prune", "--yes", "--store", str(store.root)]) == 0
    assert [folder.is_dir() for folder in (old, new)] == [False, True]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["explain"], "KEY is None, but must be the key of a stage"),
        (["list", "abc"], "KEY is 'abc', but must be left out"),
        (["explain", "f"], "no object of"),
        (["remove"], "ACTION is 'remove', but must be one of list, explain, verify, prune"),
        (["prune", "--older-than", "-1"], "--older-than is -1.0, but must be 0 or more"),
    ],
)
def test_a_wrong_command_gets_one_line(store, words, named, capfd):
    assert main(["store", *words, "--store", str(store.root)]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert named in line


def test_an_empty_store_is_empty(tmp_path, capfd):
    assert main(["store", "--store", str(tmp_path / "none")]) == 0
    assert "0 stages" in capfd.readouterr().out
    assert not (tmp_path / "none").exists()
