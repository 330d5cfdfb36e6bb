"""Stages that two processes train, against the same stages in one: the same figures, also after a process was killed."""

from __future__ import annotations

import io
import os
import signal
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from rich.console import Console

from ks_lottery import RowPatch, UserError
from ks_lottery.config.recipe_commands import ReproduceOptions
from ks_lottery.recipes import process_group
from ks_lottery.recipes.prepared_recipe import prepare_recipe
from ks_lottery.recipes.stage import Work
from ks_lottery.report.screen import Screen
from ks_lottery.store.files import read_json
from ks_lottery.tickets.scan import Scan
from ks_lottery.tuning.tune_spec import TuneSpec

KINDS = ("tune", "full", "layer")
"""Kinds of stages that train."""


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def prepared(recipe, model, text, folder, processes):
    options = ReproduceOptions(
        recipe=recipe, scale="smoke", model=(str(model),), train=str(text), sizes=(4,), store=str(folder / "store"),
        cells=str(folder / "cells"), dtype="float32", device="cpu", processes=processes,
    )  # fmt: skip
    return prepare_recipe(options).stored


def screen():
    return Screen(0, Console(file=io.StringIO()))


def made(stored, words):
    """Make the first stage whose name has a word, for each, and return their folders."""
    names = [next(stage.name for stage in stored.recipe.stages if word in stage.name) for word in words]
    with stored.store.in_use():
        return [stage.folder for _, stage in stored.in_order(names, {}, screen())]


@pytest.mark.parametrize("recipe", ["table2", "figure6"])
def test_the_number_of_processes_is_in_the_key_of_stages_that_train_and_of_no_cell(
    recipe, narrow_model, text_file, tmp_path
):
    one, two = (prepared(recipe, narrow_model, text_file, tmp_path, n) for n in (1, 2))
    assert "processes" not in one.conditions
    assert two.conditions == {**one.conditions, "processes": 2}
    digests = dict.fromkeys((*one.recipe.inputs, *(stage.name for stage in one.recipe.stages)), "0" * 64)
    differ = {
        stage.kind for stage in one.recipe.stages
        if stage.key(digests, one.conditions) != stage.key(digests, two.conditions)
    }  # fmt: skip
    assert differ == {stage.kind for stage in one.recipe.stages} & set(KINDS)
    assert all(
        stage.key(digests, one.conditions) == stage.key(digests, two.conditions) for stage in one.recipe.stages
        if stage.kind not in KINDS
    )  # fmt: skip
    assert one.cell_keys() == two.cell_keys()


def test_what_cannot_be_shared_out_is_refused_before_anything_is_computed(narrow_model, text_file, tmp_path):
    with pytest.raises(
        UserError, match=r"^`processes` is 3, but batches of 8 with 1 a step cannot be shared out evenly"
    ):
        prepared("table2", narrow_model, text_file, tmp_path, 3)


def losses(folder):
    return [entry["loss"] for entry in read_json(folder / "training.json")["losses"]]


@pytest.mark.slow
def test_two_processes_make_the_products_of_one(narrow_model, text_file, tmp_path):
    """Embed tuning, full tuning with what is measured of it, and the scan of a layer that is tuned alone."""
    embed, full, layer = [], [], []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        tuned, measured = made(prepared("table2", narrow_model, text_file, folder, processes), [": embed", ": full"])
        embed.append(tuned)
        full.append(read_json(measured / "figures.json"))
        (scanned,) = made(prepared("figure6", narrow_model, text_file, folder, processes), ["layer 0 alone"])
        layer.append(Scan.open(scanned / "scan.parquet"))
    assert losses(embed[0]) == pytest.approx(losses(embed[1]), abs=1e-4)
    assert losses(embed[0])[-1] < losses(embed[0])[0]
    patches = [RowPatch.open(folder) for folder in embed]
    assert patches[0].ids.tolist() == patches[1].ids.tolist()
    assert np.allclose(patches[0].values, patches[1].values, atol=1e-3)
    assert full[0]["loss"] == pytest.approx(full[1]["loss"], abs=1e-4)
    assert full[0]["forgetting"]["loss_difference"] == pytest.approx(full[1]["forgetting"]["loss_difference"], abs=1e-4)
    assert (full[0]["parameters"], full[0]["bytes"]) == (full[1]["parameters"], full[1]["bytes"])
    assert len(layer[0]) == len(layer[1]) > 0
    assert np.abs(layer[0].counts - layer[1].counts).max() <= 1
    assert np.allclose(layer[0].distance, layer[1].distance, atol=1e-3)
    assert not list((tmp_path / "2" / "store" / "unfinished").glob("*"))


def killed_at(train, step, folder, work):
    """Train with a checkpoint after every second step, and kill the second process after a step the first time."""
    TuneSpec.__init__.__kwdefaults__["save_every"] = 2

    def tick(done, total):
        work.tick(done, total)
        if os.environ["RANK"] == "0":
            with (folder / "steps").open("a") as log:
                log.write(f"{done} ")
        elif done == step and not (folder / "mark").exists():
            (folder / "mark").write_text("killed")
            os.kill(os.getpid(), signal.SIGKILL)

    return train(replace(work, tick=tick))


@pytest.mark.slow
def test_a_killed_process_ends_the_stage_with_one_sentence_which_then_resumes(narrow_model, text_file, tmp_path):
    stored = prepared("table2", narrow_model, text_file, tmp_path, 2)
    study = stored.recipe.stage(next(stage.name for stage in stored.recipe.stages if ": embed" in stage.name))
    dying = replace(study, train=partial(killed_at, study.train, 5, tmp_path))
    stages = tuple(dying if stage.name == study.name else stage for stage in stored.recipe.stages)
    stored = replace(stored, recipe=replace(stored.recipe, stages=stages))
    with pytest.raises(UserError) as caught:
        made(stored, [": embed"])
    assert (tmp_path / "mark").exists()
    before = (tmp_path / "steps").read_text().split()
    assert str(caught.value) == (
        f"{study.title}: one of its 2 processes was ended from outside or had too little memory. The same command resumes "
        "from the last checkpoint."
    )
    assert stored.store.keys() == []
    (resumed,) = made(stored, [": embed"])
    after = (tmp_path / "steps").read_text().split()[len(before) :]
    assert after[0] == "5"  # the checkpoint of step 4 was there
    assert after[-1] == "8"
    (whole,) = made(prepared("table2", narrow_model, text_file, tmp_path / "whole", 1), [": embed"])
    assert losses(resumed) == pytest.approx(losses(whole), abs=1e-4)
    assert np.allclose(RowPatch.open(resumed).values, RowPatch.open(whole).values, atol=1e-3)


def refuse(work):
    raise UserError("the text: it has no letters. Give another.")


@pytest.mark.slow
def test_a_refusal_of_a_process_is_its_sentence(narrow_model, text_file, tmp_path):
    stored = prepared("table2", narrow_model, text_file, tmp_path, 2)
    embed = next(stage for stage in stored.recipe.stages if ": embed" in stage.name)
    work = Work(folder=tmp_path / "f", tick=print, unfinished=tmp_path / "u")
    with pytest.raises(UserError) as caught:
        process_group.train_together(refuse, work, processes=2, threads=1, title=embed.title)
    assert str(caught.value) == "the text: it has no letters. Give another."


def test_a_recipe_under_torchrun_is_refused(monkeypatch, capsys):
    from ks_lottery.cli.main import main

    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["reproduce", "selectors", "--scale", "smoke"]) == 2
    assert "give --processes, not torchrun or accelerate launch" in capsys.readouterr().err
