"""The recipes of certificates on a tiny model: figures against SciPy, transformers and direct calls of the library."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console
from scipy.stats import ks_2samp
from transformers import AutoModelForCausalLM, AutoTokenizer

import ks_lottery
from ks_lottery import load_model, read_corpus, reproduce
from ks_lottery.checkpoint.patch import RowPatch
from ks_lottery.config.recipe_commands import ReproduceOptions
from ks_lottery.corpus.batches import encode
from ks_lottery.corpus.selection import hold_out, keep_useful
from ks_lottery.recipes import table_scale
from ks_lottery.recipes.certification_recipe import CERTIFICATION_TABLES
from ks_lottery.recipes.certification_tables import certification_tables, levels_of
from ks_lottery.recipes.prepared_recipe import prepare_recipe
from ks_lottery.report.screen import Screen
from ks_lottery.store.cells import FinishedCell
from ks_lottery.store.objects import ObjectStore
from ks_lottery.tickets.scan import Scan
from ks_lottery.tickets.tickets import Tickets

pytestmark = pytest.mark.slow  # makes recipes on a tiny model: about a minute


@pytest.fixture(scope="module")
def settings(narrow_model, text_file, tmp_path_factory):
    root = tmp_path_factory.mktemp("tables")
    return {
        "scale": "smoke", "model": [str(narrow_model)], "train": str(text_file), "seeds": 2, "store": str(root / "store"),
        "cells": str(root / "cells"), "dtype": "float32", "device": "cpu",
    }  # fmt: skip


@pytest.fixture(scope="module")
def transferred(settings):
    return reproduce("figure7", **settings)


@pytest.fixture(scope="module")
def partially(settings):
    return reproduce("table7", **settings)


@pytest.fixture(scope="module")
def test_text(text_file):
    corpus = keep_useful(read_corpus(text_file, source_language="en", target_language="ca"))[0]
    return hold_out(corpus, 0.2)[1].head(24)


def stages(settings, kind, **about):
    every, _ = ObjectStore(settings["store"]).stages()
    return [
        stage
        for stage in every
        if stage.about["stage"] == kind
        and all(stage.about["settings"].get(name) == value for name, value in about.items())
    ]


def source(stage, role, settings):
    key = stage.about["inputs"][role]["key"]
    return next(other for other in ObjectStore(settings["store"]).stages()[0] if other.key == key)


def test_figures_of_transfers_are_those_of_certify(transferred, settings, narrow_model, test_text):
    loaded = load_model(narrow_model, dtype="float32", device="cpu")
    for seed, cell in enumerate(transferred.cells):
        (embed,) = stages(settings, "tune", method="embed", seed=seed)
        made = ks_lottery.certify(
            loaded,
            embed.folder,
            None,
            test_text,
            alphas=[0.0, 0.5, 1.0],
            calibration=0.5,
            batch_size=32,
            max_tokens=512,
        )
        content = made.as_dict()
        for name in ("tuned_accuracy", "original_accuracy", "positions", "sentences", "counted"):
            assert cell.figures[name] == pytest.approx(content[name]) if name.endswith("y") else content[name]
        for here, there in zip(cell.figures["levels"], content["levels"], strict=True):
            assert (here["tickets"], here["alpha"]) == (there["tickets"], there["alpha"])
            assert here["bounds"]["empirical"]["tau"] == pytest.approx(there["bounds"]["empirical"]["tau"])
            assert here["prediction_accuracy"] == pytest.approx(there["prediction_accuracy"])
        assert [g["lower"] for g in cell.figures["guarantees"]] == pytest.approx(
            [g["lower"] for g in content["guarantees"]]
        )


def answers_of_transformers(model, texts, patch, sources):
    """Return labels, answers and half gaps of the first 20 positions, sentence by sentence, by transformers alone."""
    lm, tokenizer = AutoModelForCausalLM.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    if patch is not None:
        rows = lm.get_input_embeddings().weight.detach().clone()
        rows[torch.from_numpy(patch.ids)] = patch.values
        lm.model.embed_tokens = torch.nn.Embedding.from_pretrained(rows)
    chosen = [pair for pair in texts if pair.source in sources]
    found = []
    for example in encode(tokenizer, replace(texts, pairs=tuple(chosen)))[0]:
        with torch.no_grad():
            logits = lm(torch.tensor([example.sequence])).logits[0, len(example.prompt) - 1 : -1]
        top = logits.double().softmax(-1).topk(2, dim=-1)
        gap = (top.values[:, 0] - top.values[:, 1]) / 2
        found.append((np.array(example.response)[:20], top.indices[:20, 0].numpy(), gap[:20].numpy()))
    return found


def test_partial_tuning_is_certified_as_by_hand(partially, settings, narrow_model, test_text):
    """Tickets by SciPy's p, tau as the largest D of all other rows, certified and violated positions by transformers."""
    cell = next(cell for cell in partially.cells if cell.about["seed"] == 1)
    certified = next(
        stage
        for stage in stages(settings, "certify")
        if len(stage.about["inputs"]) == 7 and source(stage, "tuned", settings).about["settings"]["seed"] == 1
    )
    assert cell.about["way"] == "partial"
    embed = RowPatch.open(source(certified, "tuned", settings).folder)
    base = AutoModelForCausalLM.from_pretrained(narrow_model).get_input_embeddings().weight.detach().numpy()
    after = base.copy()
    after[embed.ids] = embed.values.numpy()
    tests = [ks_2samp(one, other) for one, other in zip(base, after, strict=True)]
    small = RowPatch.open(source(certified, "small 0.3", settings).folder)
    selected = [row for row, test in enumerate(tests) if test.pvalue < 0.3]
    assert small.ids.tolist() == selected
    tau = max(test.statistic for row, test in enumerate(tests) if row not in selected)
    level = next(level for level in cell.figures["levels"] if level["name"] == "0.3")
    assert level["bounds"]["empirical"]["tau"] == pytest.approx(tau)
    assert level["tickets"] == len(selected)

    drawn = ks_lottery.Certificate.open(certified.folder)
    total = cell.figures["positions"]
    assert drawn.positions == total
    calibration = cell.figures["guarantees"][0]["n"]
    assert calibration + cell.figures["sentences"] == len(test_text)
    from ks_lottery.certification.pool import draw

    sources = {pair.source for pair in draw(test_text, 0.5, 0).report}
    by = {
        name: answers_of_transformers(narrow_model, test_text, patch, sources)
        for name, patch in (("original", None), ("tuned", embed), ("small", small))
    }
    right = {name: sum((label == answer).sum() for label, answer, _ in every) / total for name, every in by.items()}
    assert cell.figures["tuned_accuracy"] == pytest.approx(right["tuned"])
    assert cell.figures["original_accuracy"] == pytest.approx(right["original"])
    assert level["prediction_accuracy"] == pytest.approx(right["small"])
    verified = np.concatenate([gap > tau for _, _, gap in by["tuned"]])
    assert level["bounds"]["empirical"]["rules"]["theorem"]["verified"] == pytest.approx(verified.mean())
    marks = [
        (label == answer) & (gap > 0) for label, answer, gap in by["tuned"]
    ]  # at alpha 1, tau is 0 and small is tuned
    whole = next(level for level in cell.figures["levels"] if level["name"] == "1")
    audit = whole["bounds"]["empirical"]["rules"]["theorem"]
    assert (audit["positions"], audit["violations"]) == (int(np.concatenate(marks).sum()), 0)
    added = cell.figures["by_sentence"]
    assert added["positions"] == [len(label) for label, _, _ in by["tuned"]]
    assert added["levels"]["1"]["theorem"] == [int(mark.sum()) for mark in marks]
    assert added["levels"]["0.3"]["small"] == [int((label == answer).sum()) for label, answer, _ in by["small"]]


def test_tables_5_and_7_and_figure_4_share_their_cells(partially, settings):
    for name in ("table5", "figure4"):
        options = {n: tuple(v) if isinstance(v, list) else v for n, v in settings.items()}
        stored = prepare_recipe(ReproduceOptions(recipe=name, **options)).stored
        assert stored.cell_keys() == list(partially.keys)


def test_table_6_is_scipys_test_of_the_same_tickets(settings):
    made = reproduce("table6", **settings)
    cells = [cell for cell in made.cells if cell.about["seed"] == 0]
    assert [cell.about["alpha"] for cell in cells] == [0.05, 0.4, 0.9]
    assert {cell.figures["level"] for cell in made.cells} == {0.05}
    compared = stages(settings, "alike")
    for cell in cells:
        stage = next(
            s for s in compared
            if source(s, "rows", settings).about["settings"]["alpha"] == cell.about["alpha"]
            and source(s, "tuned", settings).about["settings"]["seed"] == 0
        )  # fmt: skip
        embed, small = (RowPatch.open(source(stage, role, settings).folder) for role in ("tuned", "small"))
        rows = Tickets.open(source(stage, "rows", settings).folder / "rows.json").rows.tolist()
        values = [dict(zip(patch.ids.tolist(), patch.values.numpy(), strict=True)) for patch in (embed, small)]
        changed = sum(ks_2samp(values[0][row], values[1][row]).pvalue < 0.05 for row in rows)
        assert (cell.figures["compared"], cell.figures["changed"]) == (len(rows), changed)
        assert cell.figures["unchanged"] == pytest.approx(1 - changed / len(rows))
    table, said = made.sections()
    assert [row[-1] for row in table.rows] == [0.78, 0.83, 0.85]  # en-ca of the paper
    assert "level 0.05 for each alpha" in said.sentences[0]


def test_the_tables_show_the_cells_and_the_paper(partially, transferred):
    table, said = partially.sections()
    titles = [column.title for column in table.columns]
    assert [row[titles.index("alpha")] for row in table.rows] == [0.0, 1.0]
    assert table.rows[0][titles.index("paper, certified")] == 0.5649
    assert table.rows[0][titles.index("tickets")] == "none"
    predicted = [cell.figures["levels"][-1]["prediction_accuracy"] for cell in partially.cells]
    assert table.rows[1][titles.index("predicted")] == pytest.approx(np.mean(predicted))
    assert any("selects no ticket with seed 0, 1" in sentence for sentence in said.sentences)
    assert "paper, certified" not in [column.title for column in transferred.sections()[0].columns]


def cell_of(small, certified, seed=0):
    """Return a cell of three sentences of ten positions with these right and certified positions, and one alpha."""
    audit = {
        "accuracy": sum(certified) / 30, "verified": 0.5, "positions": sum(certified), "violations": 3, "rate": 0.1,
        "violation_interval": [0.0, 1.0],
    }  # fmt: skip
    level = {
        "name": "0.05", "alpha": 0.05, "tickets": 7, "prediction_accuracy": sum(small) / 30, "agreement": 1.0,
        "bounds": {"empirical": {"tau": 0.1, "rules": {"theorem": audit}}},
    }  # fmt: skip
    figures = {
        "levels": [level], "guarantees": [], "original_accuracy": 0.1, "counted": {"bound": 20, "guarantee": None},
        "by_sentence": {"positions": [10, 10, 10], "levels": {"0.05": {"small": small, "theorem": certified}}},
    }  # fmt: skip
    return FinishedCell(
        recipe="x",
        about={"model": "m", "pair": "en-ca", "way": "partial", "seed": seed},
        figures=figures,
        conditions={},
    )


@pytest.mark.parametrize(
    ("small", "certified", "words"),
    [
        ([9, 9, 9], [5, 6, 5], "certified accuracy is below prediction accuracy at alpha 0.05."),
        ([5, 6, 5], [9, 9, 9], "certified accuracy is ABOVE prediction accuracy at alpha 0.05"),
        ([5, 6, 5], [6, 5, 5], "the interval of their difference contains 0 at alpha 0.05"),
    ],
)
def test_a_lower_bound_is_claimed_only_where_the_interval_excludes_0(small, certified, words):
    cells = [cell_of(small, certified, seed) for seed in range(2)]
    said = certification_tables(cells, name="table7", rule="theorem", alphas=[0.05], resamples=500)[-1].sentences
    assert any(words in sentence for sentence in said)
    assert sum("prediction accuracy at alpha" in s or "contains 0" in s for s in said) == 1
    (level,) = levels_of(cells, "theorem", [0.05, 0.5], resamples=500)
    assert level.gap.estimate == pytest.approx((sum(small) - sum(certified)) / 30)
    assert any("answers 6 of" in sentence for sentence in said)


def test_every_table_of_certificates_is_a_recipe_with_alphas_that_are_computed():
    for table in CERTIFICATION_TABLES:
        assert table.name in ks_lottery.config.choices.RECIPES
        assert list(table.alphas) == sorted(set(table.alphas))


def test_a_training_that_finds_no_ticket_makes_a_row_that_says_so(settings, monkeypatch, tmp_path):
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    weak = replace(prepare_recipe(ReproduceOptions(recipe="table6", **options)).studies[0].scale, seeds=1)
    weak = replace(weak, training=replace(weak.training, learning_rate=1e-6), levels=2)
    monkeypatch.setitem(table_scale._BASES, "smoke", weak)
    places = {"store": str(tmp_path / "s"), "cells": None, "seeds": None}
    table, _ = reproduce("table6", **{**settings, **places}).sections()
    assert table.rows[0][1:5] == [0.05, "none", None, None]
    assert any("alpha 0.05 selects no ticket with seed 0" in sentence for sentence in table.sentences)
    table, _ = reproduce("table7", **{**settings, **places}).sections()
    assert table.rows[0][1] == "none"
    stored = prepare_recipe(ReproduceOptions(recipe="table3", **{**options, **places})).stored
    (cell,) = stored.execute(Screen(0, Console(file=io.StringIO())))
    assert cell.figures["rows"] == []
    tickets, together, _ = stored.recipe.report([cell])
    assert tickets.rows[0][:2] == ["none", "no ticket"]
    assert "seed 0: no ticket. The largest D is" in " ".join(tickets.sentences)
    assert together.rows[0][1] == "0.0"
    assert Scan.open(stages({**settings, **places}, "scan")[0].folder / "scan.parquet").moved.any()
