"""Golden figures of each kind of stage: they change only together with the version of its code.

Renew them with KS_LOTTERY_GOLDEN=1 after raising the version in `CODE`; a kind whose version is the same is not renewed.
"""

from __future__ import annotations

import io
import json
import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from ks_lottery.checkpoint.attribution import Attribution
from ks_lottery.checkpoint.patch import RowPatch
from ks_lottery.config.choices import MEASURED, SPANS
from ks_lottery.config.recipe_commands import ReproduceOptions
from ks_lottery.recipes import study_stages
from ks_lottery.recipes.prepared_recipe import prepare_recipe
from ks_lottery.recipes.stage import Work
from ks_lottery.recipes.study_stages import CODE
from ks_lottery.report.screen import Screen
from ks_lottery.store.files import read_json
from ks_lottery.tickets.scan import Scan
from ks_lottery.tuning.tune_spec import TuneSpec

GOLDEN = Path(__file__).parents[1] / "golden" / "stages.json"


def patch_figures(folder):
    if (folder / "adapter_model.safetensors").is_file():
        return {
            "sum": sum(float(t.double().abs().sum()) for t in load_file(folder / "adapter_model.safetensors").values())
        }
    patch = RowPatch.open(folder)
    return {"rows": patch.ids.tolist(), "sum": float(patch.values.double().abs().sum())}


def certificate_figures(folder):
    figures = read_json(folder / "figures.json")
    levels = [(level, level["bounds"]["empirical"]) for level in figures["levels"]]
    return {
        **{name: figures[name] for name in ("original_accuracy", "tuned_accuracy", "positions")},
        "levels": [
            [level["tickets"], level["prediction_accuracy"], level["agreement"], bound["tau"]]
            for level, bound in levels
        ],
        "verified": [[rule["verified"], rule["accuracy"]] for _, bound in levels for rule in bound["rules"].values()],
        "lower": [guarantee["lower"] for guarantee in figures["guarantees"]],
    }


FIGURES = {
    "tune": lambda folder: {
        **patch_figures(folder), "losses": [entry["loss"] for entry in read_json(folder / "training.json")["losses"]],
    },
    "scan": lambda folder: {"counts": int(Scan.open(folder / "scan.parquet").counts.sum())},
    "gradients": lambda folder: {"sum": float(Attribution.open(folder).score("gradient").sum())},
    "rows": lambda folder: {"rows": [row["row"] for row in read_json(folder / "rows.json")["rows"]]},
    "transfer": patch_figures,
    "measure": lambda folder: {
        **{name: read_json(folder / "figures.json")[name] for name in ("accuracy", "loss")},
        "forgotten": read_json(folder / "figures.json")["forgetting"]["loss_difference"],
    },
    "where": lambda folder: {
        **{
            name: [effect[name] for part in ("spans", "controls") for effect in read_json(folder / "figures.json")[part]]
            for name in ("accuracy", "loss", "difference_interval")
        },
        "tokens": read_json(folder / "figures.json")["tokens"]["spans"],
    },
    "origin": lambda folder: {name: read_json(folder / "figures.json")[name] for name in ("rows", *SPANS)},
    "certify": certificate_figures,
    "alike": lambda folder: {name: read_json(folder / "figures.json")[name] for name in ("compared", "changed", "level")},
    "explain": lambda folder: {
        **{name: [row[name] for row in read_json(folder / "figures.json")["rows"]] for name in ("row", "frequency_rank")},
        "ranks": [list(row["ranks"].values()) for row in read_json(folder / "figures.json")["rows"]],
        "origin": [list(row["origin"].values()) for row in read_json(folder / "figures.json")["rows"]],
    },
    "layer": lambda folder: {"counts": int(Scan.open(folder / "scan.parquet").counts.sum())},
    "kinds": lambda folder: {
        name: [kind[name] for kind in read_json(folder / "figures.json")["kinds"]]
        for name in ("units", "moved", "passing", "statistic")
    },
    "power": lambda folder: {
        name: read_json(folder / "figures.json")[name]
        for name in ("rows_passing", "largest_statistic", "needed", "spread", "steps")
    },
}  # fmt: skip
"""Kind of stage to the figures of its folder that are compared."""

ADDED = {
    "where": ("where", "origin"), "figure7": ("certify",), "table6": ("alike",), "table3": ("explain",),
    "figure6": ("layer", "kinds"), "power": ("power",),
}  # fmt: skip
"""Recipe to the kinds of stages that it adds."""

FIRST = {"table6": 1, "figure6": 2, "power": 1}
"""Recipe to the number of its cells that are made; all of any other."""


def computed(model, text, root):
    """Return the figures of every stage of a small recipe, and of the kinds that another one adds, by name, under the kind."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for recipe in ("selectors", *ADDED):
            options = ReproduceOptions(
                recipe=recipe, scale="smoke", model=(model,), train=text, sizes=(3,), store=str(root), dtype="float32",
                device="cpu",
            )  # fmt: skip
            stored = prepare_recipe(options).stored
            short = replace(stored.recipe, cells=stored.recipe.cells[: FIRST.get(recipe)])
            replace(stored, recipe=short).execute(Screen(0, Console(file=io.StringIO())))
    finally:
        torch.set_num_threads(threads)
    figures = {kind: {} for kind in CODE}
    for stage in stored.store.stages()[0]:
        about = stage.about
        if about["stage"] not in ADDED.get(about["recipe"], CODE):
            continue  # the first recipe has stages of this kind
        figures[about["stage"]][about["title"]] = FIGURES[about["stage"]](stage.folder)
    return figures


@pytest.fixture(scope="module")
def here(narrow_model, text_file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("golden")
    (folder / "model").symlink_to(narrow_model)
    before = Path.cwd()
    os.chdir(folder)  # the name of the model is in the titles
    try:
        return computed("model", str(text_file), folder / "store")
    finally:
        os.chdir(before)


def differing(kind, figures, golden):
    """Return the stages of a kind whose figures are not those that were saved; the last bits may differ between processors."""
    saved = golden.get(kind, {"figures": {}})["figures"]
    names = figures[kind].keys() | saved.keys()
    return [
        name
        for name in sorted(names)
        if saved.get(name, {}).keys() != figures[kind].get(name, {}).keys()
        or any(not np.allclose(figures[kind][name][part], saved[name][part], rtol=1e-3) for part in saved[name])
    ]


@pytest.mark.slow
def test_figures_change_only_with_the_version_of_the_code(here):
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.is_file() else {}
    if os.environ.get("KS_LOTTERY_GOLDEN"):
        renewed = {
            kind: golden[kind] if golden.get(kind, {}).get("code") == code else {"code": code, "figures": here[kind]}
            for kind, code in CODE.items()
        }
        GOLDEN.write_text(json.dumps(renewed, indent=1, ensure_ascii=False) + "\n")
        golden = renewed
    assert {kind: saved["code"] for kind, saved in golden.items()} == CODE, "renew the golden figures"
    assert {kind: differing(kind, here, golden) for kind in CODE} == {kind: [] for kind in CODE}


@pytest.mark.slow
def test_every_kind_of_stage_has_golden_figures_and_a_version(here):
    assert set(FIGURES) == set(CODE)
    assert all(here[kind] for kind in CODE)


@pytest.mark.slow
def test_other_numbers_under_the_same_version_are_noticed(here):
    golden = json.loads(GOLDEN.read_text())
    for kind in ("tune", "measure", "gradients"):
        changed = json.loads(json.dumps(here))
        name = next(iter(changed[kind]))
        part = {"tune": "sum", "measure": "loss", "gradients": "sum"}[kind]
        changed[kind][name][part] *= 1.01
        assert differing(kind, changed, golden) == [name]


def test_raising_the_version_of_the_code_changes_the_keys_of_what_follows(
    narrow_model, text_file, tmp_path, monkeypatch
):
    options = ReproduceOptions(
        recipe="selectors",
        scale="smoke",
        model=(str(narrow_model),),
        train=str(text_file),
        sizes=(3,),
        store=str(tmp_path / "s"),
    )
    before = prepare_recipe(options).stored
    monkeypatch.setitem(study_stages.CODE, "gradients", CODE["gradients"] + 1)
    after = prepare_recipe(options).stored
    changed = [
        cell.about["system"]
        for cell, old, new in zip(before.recipe.cells, before.cell_keys(), after.cell_keys(), strict=True)
        if old != new
    ]
    assert set(changed) == {*MEASURED, "move-of-120-after-a-quarter"}


def test_a_training_that_is_stopped_resumes_to_the_same_bytes(narrow_model, text_file, tmp_path, monkeypatch):
    monkeypatch.setattr(study_stages, "TuneSpec", partial(TuneSpec, save_every=2))
    options = ReproduceOptions(
        recipe="selectors", scale="smoke", model=(str(narrow_model),), train=str(text_file), store=str(tmp_path / "s")
    )
    stage = study_stages.tune_stage(prepare_recipe(options).studies[0], "embed", 0)
    steps: list[int] = []

    def tick(done, total):
        steps.append(done)
        if done == 5 and len(steps) <= 5:
            raise KeyboardInterrupt

    def make(name, unfinished, tick):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        stage.make(Work(folder=folder, tick=tick, unfinished=tmp_path / unfinished))
        return (folder / "patch.safetensors").read_bytes()

    with pytest.raises(KeyboardInterrupt):
        make("stopped", "work", tick)
    resumed = make("stopped", "work", tick)
    assert steps[:5] == [1, 2, 3, 4, 5]
    assert min(steps[5:]) > 4
    assert resumed == make("unbroken", "other", lambda done, total: None)
