"""The recipes `table3`, `figure6`, `power`, `transfer-matrix` and `all` on a tiny model, against SciPy and the library."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp, rankdata
from transformers import AutoModelForCausalLM, AutoTokenizer

import ks_lottery
from ks_lottery import UserError, load_model, read_corpus, reproduce
from ks_lottery.checkpoint.patch import RowPatch
from ks_lottery.config.recipe_commands import ReproduceOptions
from ks_lottery.corpus.batches import encode
from ks_lottery.corpus.selection import hold_out, keep_useful
from ks_lottery.recipes.all_recipes import combined_recipe
from ks_lottery.recipes.analysis_recipe import training_of
from ks_lottery.recipes.power_tables import trainings_of
from ks_lottery.recipes.prepared_recipe import RECIPES, prepare_recipe
from ks_lottery.recipes.recipe_plan import plan_recipe
from ks_lottery.recipes.stage import Cell, Recipe, Stage
from ks_lottery.store.files import read_json
from ks_lottery.store.objects import ObjectStore
from ks_lottery.tuning.plan import steps_in_all

pytestmark = pytest.mark.slow  # makes recipes on a tiny model: about a minute


@pytest.fixture(scope="module")
def texts_of(text_file, tmp_path_factory):
    """A text for each of two target languages; both have the same source sentences."""
    folder = tmp_path_factory.mktemp("texts")
    for language, word in (("ca", "número"), ("de", "Nummer")):
        lines = text_file.read_text(encoding="utf-8").replace("número", word)
        (folder / f"en-{language}.tsv").write_text(lines, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def settings(narrow_model, texts_of, tmp_path_factory):
    root = tmp_path_factory.mktemp("analyses")
    return {
        "scale": "smoke", "model": [str(narrow_model)], "train": str(texts_of / "{source}-{target}.tsv"),
        "pairs": ["en-ca"], "seeds": 1, "store": str(root / "store"), "cells": str(root / "cells"), "dtype": "float32",
        "device": "cpu",
    }  # fmt: skip


@pytest.fixture(scope="module")
def explained(settings):
    return reproduce("table3", **{**settings, "seeds": 2})


@pytest.fixture(scope="module")
def matrix(settings):
    return reproduce("transfer-matrix", **{**settings, "pairs": ["en-ca", "en-de"], "sizes": [4]})


def stages(settings, kind, **about):
    every, _ = ObjectStore(settings["store"]).stages()
    return [
        stage
        for stage in every
        if stage.about["stage"] == kind
        and all(stage.about["settings"].get(name) == value for name, value in about.items())
    ]


def train_text(texts_of, language="ca"):
    corpus = read_corpus(texts_of / f"en-{language}.tsv", source_language="en", target_language=language)
    return hold_out(keep_useful(corpus)[0], 0.2)[0].head(64)


def base_rows(model):
    return AutoModelForCausalLM.from_pretrained(model).get_input_embeddings().weight.detach().numpy()


def test_table_3_has_scipys_p_and_ranks_by_the_definitions(explained, settings, narrow_model, texts_of):
    cell = explained.cells[0]
    (embed,) = stages(settings, "tune", method="embed", seed=0, learning_rate=1e-2, batch_size=8)
    patch, base = RowPatch.open(embed.folder), base_rows(narrow_model).astype(np.float64)
    after = base.copy()
    after[patch.ids] = patch.values.numpy()
    p = np.array([ks_2samp(one, other).pvalue for one, other in zip(base, after, strict=True)])
    rows = cell.figures["rows"]
    assert sorted(row["row"] for row in rows) == np.flatnonzero(p < 0.05).tolist()
    assert [row["pvalue"] for row in rows] == pytest.approx([p[row["row"]] for row in rows])
    norms = np.linalg.norm(base, axis=1) * np.linalg.norm(after, axis=1)
    norms[norms == 0] = np.nan  # the padding row
    scores = {
        "cos": 1 - (base * after).sum(axis=1) / norms,
        "absolute": np.abs(after - base).mean(axis=1),
        "absolute-signed": (after - base).mean(axis=1),
    }
    tokenizer = AutoTokenizer.from_pretrained(narrow_model)
    corpus = train_text(texts_of)
    counts = Counter(t for pair in corpus for t in tokenizer(pair.target, add_special_tokens=False)["input_ids"])
    frequent = rankdata([-counts[row] for row in range(len(base))])
    occurring = Counter(t for example in encode(tokenizer, corpus)[0] for t in example.sequence)
    for row in rows:
        assert row["frequency_rank"] == frequent[row["row"]]
        for name in ("absolute", "absolute-signed"):
            assert row["ranks"][name] == pytest.approx(rankdata(-scores[name])[row["row"]] / len(base), abs=1e-3)
        better = np.nansum(scores["cos"] > scores["cos"][row["row"]])
        assert row["ranks"]["cos"] * len(base) == pytest.approx(better + 1, abs=1)
        assert sum(row["origin"].values()) == occurring[row["row"]]
    template = sum(row["origin"]["instruction"] > 0 for row in rows)
    assert cell.figures["template_rows"] == template > 0


def test_table_3_shows_medians_beside_those_of_the_paper(explained):
    tickets, together, _ = explained.sections()
    assert len(tickets.rows) == len(explained.cells[0].figures["rows"])
    shown = {row[0]: row[1:] for row in together.rows}
    assert shown["tickets"][-1] == "18"
    assert shown["median frequency rank"][-1] == "160.0"  # of 18 ranks, the mean of 146 and 174
    assert shown["median rank by absolute"][-1] is None  # the paper's column is the signed one
    own = [np.median([row["ranks"]["kl"] for row in cell.figures["rows"]]) for cell in explained.cells]
    assert shown["median rank by kl"][0] == f"{np.mean(own):.4f}"


def test_figure_6_tunes_each_layer_alone(settings, narrow_model, texts_of):
    made = reproduce("figure6", **settings)
    assert [cell.about["layer"] for cell in made.cells] == [None, 0, 1]
    assert [[kind["kind"] for kind in cell.figures["kinds"]] for cell in made.cells] == [
        ["embedding"], ["LayerNorm", "attention", "feed-forward"], ["LayerNorm", "attention", "feed-forward"],
    ]  # fmt: skip
    (stage,) = stages(settings, "layer", layer=1)
    trained = {name: stage.about["settings"][name] for name in ("learning_rate", "epochs", "batch_size")}
    loaded = load_model(narrow_model, dtype="float32", device="cpu")
    tuned = ks_lottery.tune(loaded, train_text(texts_of), method="full", layers="1", seed=0, **trained)
    before = dict(AutoModelForCausalLM.from_pretrained(narrow_model).named_parameters())
    tests: dict[str, list[tuple[float, float]]] = {"LayerNorm": [], "attention": [], "feed-forward": []}
    moved = []
    for name, value in before.items():
        if not torch.equal(value, tuned.state[name]):
            moved.append(name)
        if ".layers.1." in name:
            kind = "LayerNorm" if "norm" in name else "attention" if "attn" in name else "feed-forward"
            units = [(value[None], tuned.state[name][None])] if value.ndim == 1 else [(value, tuned.state[name])]
            for one, other in units:
                tests[kind] += [
                    tuple(ks_2samp(a.detach().numpy(), b.numpy())[:2]) for a, b in zip(one, other, strict=True)
                ]
    assert moved
    assert all(".layers.1." in name for name in moved)
    for found in made.cells[2].figures["kinds"]:
        own = tests[found["kind"]]
        assert found["units"] == len(own)
        assert found["passing"] == sum(p < 0.05 for _, p in own)
        smallest = min(p for _, p in own)
        assert math.exp(found["log_pvalue"]) == pytest.approx(smallest)
        assert any(found["statistic"] == pytest.approx(d) for d, p in own if p == pytest.approx(smallest))
    (chart,) = prepare_and_draw(settings, "figure6", made.cells)
    assert {series.name: list(series.x) for series in chart.series} == {
        "embedding": [-1], "LayerNorm": [0, 1], "attention": [0, 1], "feed-forward": [0, 1],
    }  # fmt: skip


def prepare_and_draw(settings, name, cells):
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}
    charts = prepare_recipe(ReproduceOptions(recipe=name, **options)).stored.recipe.charts
    return charts(cells)


def test_power_counts_steps_tickets_and_agreement(settings, narrow_model):
    made = reproduce("power", **settings)
    trained = stages(settings, "power")
    assert len(made.cells) == 2 * len(trained) == 16
    base = base_rows(narrow_model)
    for cell in (cell for cell in made.cells if cell.about["figure"] == "power"):
        embed = next(
            s for s in stages(settings, "tune", method="embed", learning_rate=cell.about["rate"])
            if s.about["settings"]["batch_size"] == cell.about["batch"]
            and len(read_json(s.folder / "training.json")["losses"]) == cell.about["steps"]
        )  # fmt: skip
        assert cell.figures["steps"] == cell.about["steps"]
        patch = RowPatch.open(embed.folder)
        tests = [ks_2samp(base[i], v.numpy()) for i, v in zip(patch.ids, patch.values, strict=True)]
        assert cell.figures["largest_statistic"] == pytest.approx(max(test.statistic for test in tests))
        assert cell.figures["rows_passing"] == sum(test.pvalue < 0.05 for test in tests)
        assert cell.figures["spread"] == pytest.approx(np.median(base[patch.ids].std(axis=1)))
        if cell.figures["rows_passing"] == 0:  # so many times as large, one row passes, and not before
            factor = cell.figures["needed"]
            passing = [
                sum(
                    ks_2samp(base[i], (base[i] + scale * (v.numpy() - base[i].astype(float))).astype(np.float32)).pvalue
                    < 0.05
                    for i, v in zip(patch.ids, patch.values, strict=True)
                )
                for scale in (factor, 0.98 * factor)
            ]
            assert passing[0] > 0 == passing[1]
    rows, advice, _ = made.sections()
    assert [row[:3] for row in rows.rows][:2] == [[1e-4, 4, 4], [1e-4, 4, 8]]
    trainings = trainings_of(made.cells)
    finding = [one for one in trainings if one.finds]
    assert finding
    least = min(finding, key=lambda one: one.reach)
    assert f"learning rate {least.rate:g}, {least.steps} steps of {least.batch}" in " ".join(advice.sentences)
    assert "d = 32" in advice.sentences[0]
    none = [cell for cell in made.cells if cell.about["figure"] == "certificate" and cell.about["rate"] == 1e-4]
    for cell in none:  # without a ticket, the transfer is the original model
        level = cell.figures["levels"][0]
        assert level["tickets"] == 0
        assert level["prediction_accuracy"] == cell.figures["original_accuracy"]


def test_advice_without_any_ticket_asks_for_more(settings):
    cells = reproduce("power", **settings).cells
    sections = prepare_recipe(
        ReproduceOptions(
            recipe="power",
            **{key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()},
        )
    ).stored.recipe.report([cell for cell in cells if cell.about["rate"] == 1e-4])
    assert any("No training finds tickets with every seed" in sentence for sentence in sections[1].sentences)
    assert "none" in [row[4] for row in sections[0].rows]


@pytest.mark.parametrize(("examples", "steps", "batch"), [(64, 5, 7), (64, 234, 128), (10_000, 234, 128), (49, 5, 1)])
def test_a_training_has_the_steps_that_were_asked_for(examples, steps, batch):
    made = training_of(ks_lottery.config.settings.TrainConfig(gradient_accumulation=4), examples, 1e-3, steps, batch)
    assert steps_in_all(examples, made.batch_size, made.gradient_accumulation, made.epochs) == steps


def test_the_matrix_trains_rows_of_one_language_on_another(matrix, settings, texts_of):
    assert len(matrix.cells) == 2 * (1 + 1 + 2 + 2)
    rows = {
        stage.key: [row["row"] for row in read_json(stage.folder / "rows.json")["rows"]]
        for stage in stages(settings, "rows", rule="ks", size=4)
    }
    assert len(rows) == 3
    partial = stages(settings, "tune", method="partial", seed=0)
    made = [
        (stage, rows[stage.about["inputs"]["rows"]["key"]])
        for stage in partial
        if stage.about["inputs"]["rows"]["key"] in rows
    ]
    assert len(made) == 5  # each pair with the rows of each, and all texts together
    for stage, chosen in made:
        assert RowPatch.open(stage.folder).ids.tolist() == sorted(chosen)
    texts = {stage.about["inputs"]["text"]["digest"] for stage, _ in made}
    assert len(texts) == 3
    joint = next(stage for stage in stages(settings, "tune", method="embed") if "en-ca+en-de" in stage.about["title"])
    assert len(read_json(joint.folder / "training.json")["losses"]) == 2 * 64 / 8


def test_the_matrix_measures_on_the_text_of_the_pair(matrix, settings, narrow_model, texts_of):
    """The figures of rows of en-de, trained on en-ca, are those of `evaluate`."""
    (cell,) = (c for c in matrix.cells if c.about["rows_of"] == "en-de" and c.about["pair"] == "en-ca")
    stage = next(
        s
        for s in stages(settings, "tune", method="partial")
        if s.about["title"].startswith("en-ca") and "of en-de" in s.about["title"]
    )
    corpus = read_corpus(texts_of / "en-ca.tsv", source_language="en", target_language="ca")
    test = hold_out(keep_useful(corpus)[0], 0.2)[1].head(24)
    found = ks_lottery.evaluate(
        load_model(narrow_model, dtype="float32", device="cpu"), test, stage.folder, metrics=("accuracy",)
    ).content()["next_token"]
    assert cell.figures["accuracy"] == pytest.approx(found["accuracy"])
    assert cell.figures["loss"] == pytest.approx(found["loss"], rel=1e-5)
    table = matrix.sections()[0]
    assert table.rows[1] == ["en-de", pytest.approx(found["accuracy"]), table.rows[1][2]]


def test_the_matrix_needs_two_pairs_and_no_test_sentence_in_any_training(settings, texts_of, tmp_path):
    with pytest.raises(UserError, match="en-ca is one pair"):
        reproduce("transfer-matrix", **settings)
    test = tmp_path / "test"
    test.mkdir()
    lines = (texts_of / "en-ca.tsv").read_text(encoding="utf-8").splitlines(keepends=True)
    (test / "en-ca.tsv").write_text("".join(lines[:20]), encoding="utf-8")
    (test / "en-de.tsv").write_text("".join(lines[20:40]), encoding="utf-8")
    trains = tmp_path / "train"
    trains.mkdir()
    (trains / "en-ca.tsv").write_text("".join(lines[20:]), encoding="utf-8")
    (trains / "en-de.tsv").write_text("".join([*lines[:20], *lines[40:]]), encoding="utf-8")
    places = {"train": str(trains / "{source}-{target}.tsv"), "data": str(test / "{source}-{target}.tsv")}
    with pytest.raises(UserError, match="are in the training text too"):
        reproduce("transfer-matrix", **{**settings, **places, "pairs": ["en-ca", "en-de"]})


def test_all_plans_what_recipes_share_once_and_says_what_it_leaves_out(settings, explained):
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}
    prepared = prepare_recipe(ReproduceOptions(recipe="all", **options))
    recipe = prepared.stored.recipe
    planned = recipe.planned_keys({})
    assert len({planned[stage.name] for stage in recipe.stages}) == len(recipe.stages)
    kinds = {cell.about["recipe"] for cell in recipe.cells}
    assert kinds == set(RECIPES) - {"transfer-matrix"}
    plan = plan_recipe(prepared)
    done = {key for key in explained.keys if key in prepared.stored.cell_keys()}
    assert len(done) == 1  # of two seeds, the first
    assert plan.finished >= 1
    embed = [stage for stage in recipe.stages if stage.kind == "tune" and stage.settings["method"] == "embed"]
    assert len(
        {str((sorted(stage.settings.items(), key=str), recipe.inputs[stage.roles["text"]])) for stage in embed}
    ) == len(embed)


def test_a_combined_recipe_keeps_stages_apart_that_only_share_a_name():
    def stage(name, text="text", **settings):
        return Stage(name=name, title=name, make=lambda work: None, inputs=[text], kind="tune", settings=settings)

    def recipe(name, digest, *made):
        cells = (Cell(stage=made[-1].name, about={"seed": 0}),)
        return Recipe(name=name, stages=made, inputs={"text": digest}, cells=cells, report=lambda finished: [])

    every = combined_recipe(
        {
            "first": recipe("first", "a", stage("tune", rate=1)),
            "same": recipe("same", "a", stage("tune with another name", rate=1)),
            "rate": recipe("rate", "a", stage("tune", rate=2)),
            "text": recipe("text", "b", stage("tune", rate=1)),
        },
        {"none": "no text"},
    )
    assert [stage.name for stage in every.stages] == ["tune", "tune, rate", "tune, text"]
    assert [cell.stage for cell in every.cells] == ["tune", "tune", "tune, rate", "tune, text"]
    assert every.inputs == {"text": "a", "text, text": "b"}
    assert every.report([])[-1].sentences == ["none was left out: no text"]
    with pytest.raises(UserError, match="no text"):
        combined_recipe({}, {"none": "no text"})


@pytest.mark.parametrize("name", [name for name in RECIPES if name not in {"selectors", "where"}])
def test_the_scale_of_the_paper_has_its_training_and_pairs(name):
    from ks_lottery.recipes.table_scale import table_pairs, table_scale

    scale = table_scale(name, "paper")
    assert scale.training_of("embed")["learning_rate"] == 2e-5
    assert scale.training_of("partial")["learning_rate"] == 1e-2
    assert scale.sizes
    assert scale.models[0] == "huggyllama/llama-7b"
    assert all(pair.startswith("en-") for pair in table_pairs(name, "paper"))
    if name in {"table6", "table7", "figure4", "figure7"}:
        assert len(table_pairs(name, "paper")) == 8
    assert replace(scale, seeds=3).every_seed == range(42, 45)
