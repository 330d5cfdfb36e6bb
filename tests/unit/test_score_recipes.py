"""Recipes of the paper's score tables on a tiny model: figures against calls of the library, scipy and transformers."""

from __future__ import annotations

import csv
import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import sentencepiece
import torch
from scipy.stats import ks_2samp
from transformers import AutoModelForCausalLM, AutoTokenizer

import ks_lottery
from ks_lottery import read_corpus, reproduce
from ks_lottery.cli.main import main
from ks_lottery.config.recipe_commands import ReproduceOptions
from ks_lottery.corpus.batches import encode
from ks_lottery.corpus.selection import hold_out, keep_useful
from ks_lottery.models.load import load_model
from ks_lottery.recipes import score_recipes
from ks_lottery.recipes.prepared_recipe import TABLES, prepare_recipe
from ks_lottery.recipes.recipe_parts import RecipeParts
from ks_lottery.recipes.recipe_plan import plan_recipe
from ks_lottery.recipes.score_rows import NAMES
from ks_lottery.recipes.study_stages import rows_stage
from ks_lottery.report import drawing
from ks_lottery.store.cells import Cells
from ks_lottery.store.objects import ObjectStore

pytestmark = pytest.mark.slow  # makes recipes on a tiny model: about a minute

SIZE, NEEDS = 4, "bitsandbytes: pip install 'ks-lottery[qlora]'"
RATE = {"learning_rate": 1e-2, "epochs": 1.0}
TRANSLATED = {"translations": 2, "num_beams": 1, "max_new_tokens": 8, "resamples": 0}


@pytest.fixture(scope="module")
def places(narrow_model, text_file, tmp_path_factory):
    root = tmp_path_factory.mktemp("scores")
    words = root / "words.txt"
    words.write_text(text_file.read_text(encoding="utf-8").replace("\t", "\n"), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(words), model_prefix=str(root / "words"), vocab_size=60, minloglevel=2, hard_vocab_limit=False
    )
    settings = {
        "scale": "smoke", "model": [str(narrow_model)], "train": str(text_file), "sizes": [SIZE],
        "spm": {"flores101": root / "words.model"}, "store": str(root / "store"), "cells": str(root / "cells"),
        "dtype": "float32", "device": "cpu",
    }  # fmt: skip
    return root, settings


@pytest.fixture(scope="module")
def made(places):
    """Every recipe of a score table, in one store; what QLoRA needs is missing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score_recipes, "missing_quantization", lambda: NEEDS)
        return {name: reproduce(name, **places[1]) for name in ("figure1", "table2", "figure8", "figure5")}


@pytest.fixture(scope="module")
def texts(text_file):
    train, test = hold_out(keep_useful(read_corpus(text_file, source_language="en", target_language="ca"))[0], 0.2)
    return train.head(64), test.head(24)


@pytest.fixture(scope="module")
def loaded(narrow_model):
    return load_model(narrow_model, dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def tuned(loaded, texts):
    """Embed tuning by the library's own call."""
    return ks_lottery.tune(loaded, texts[0], method="embed", **RATE)


def options_of(places, recipe, **more):
    settings = {**places[1], **more}
    plain = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    return ReproduceOptions(recipe=recipe, **{**plain, "spm": {n: str(f) for n, f in plain["spm"].items()}})


def cells_of(reproduction, **about):
    return [c for c in reproduction.cells if all(c.about[name] == value for name, value in about.items())]


def cell_of(reproduction, **about):
    (cell,) = cells_of(reproduction, **about)
    return cell


def stored(places, kind, **settings):
    stages, _ = ObjectStore(places[0] / "store").stages()
    wanted = [s for s in stages if s.about["stage"] == kind]
    return [s for s in wanted if all(s.about["settings"].get(n) == v for n, v in settings.items())]


def row_in(section, system, set_name=None):
    titles = [column.title for column in section.columns]
    (row,) = (row for row in section.rows if list(row[:2]) == [NAMES[system], set_name])
    return dict(zip(titles, row, strict=True))


def check_figures(cell, loaded, corpus, product, places):
    """Compare the figures of a cell with those of the library's own call."""
    found = ks_lottery.evaluate(
        loaded, corpus, product, metrics=("accuracy", "bleu", "chrf", "spbleu-flores101"), spm=places[1]["spm"], **TRANSLATED
    ).content()  # fmt: skip
    for name in ("accuracy", "loss"):
        assert cell.figures[name] == pytest.approx(found["next_token"][name], rel=1e-5)
    for part in ("scores", "first_line"):
        metrics = cell.figures[part]["metrics"]
        assert set(metrics) == {"bleu", "chrf", "spbleu-flores101"}
        assert {n: m["score"] for n, m in metrics.items()} == {n: m["score"] for n, m in found[part]["metrics"].items()}
    assert cell.figures["ended"]["share"] == found["ended"]["share"]


@pytest.mark.parametrize(("set_name", "rule"), [("p < 0.05", {"alpha": 0.05}), ("at most 4", {"top_k": SIZE})])
def test_table_1_is_what_the_library_calls_give(made, places, loaded, texts, tuned, narrow_model, set_name, rule):
    tickets = ks_lottery.select(ks_lottery.scan(loaded.checkpoint, tuned), **rule)
    base = AutoModelForCausalLM.from_pretrained(narrow_model).get_input_embeddings().weight.detach().numpy()
    below = sum(ks_2samp(base[i], row.numpy()).pvalue < 0.05 for i, row in zip(tuned.ids, tuned.values, strict=True))
    small = ks_lottery.tune(loaded, texts[0], method="partial", tickets=tickets, **RATE)
    cells = [cell_of(made["figure1"], system=system, set=set_name) for system in ("partial", "transfer")]
    assert cells[0].figures["rows"] == cells[1].figures["rows"] == len(tickets) == (below if "alpha" in rule else SIZE)
    check_figures(cells[0], loaded, texts[1], small, places)
    check_figures(cells[1], loaded, texts[1], tuned.restrict(tickets.ids), places)


def test_full_tuning_is_what_transformers_loads_from_its_folder(made, narrow_model, texts, tmp_path, places):
    product = ks_lottery.tune(narrow_model, texts[0], method="full", learning_rate=1e-4, epochs=1.0)
    product.save(tmp_path / "full")
    lm, tokenizer = (
        AutoModelForCausalLM.from_pretrained(tmp_path / "full"), AutoTokenizer.from_pretrained(narrow_model)
    )  # fmt: skip
    losses, general = [], []
    for example in encode(tokenizer, texts[1])[0]:
        with torch.no_grad():
            logits = lm(torch.tensor([example.sequence])).logits[0, len(example.prompt) - 1 : -1].log_softmax(-1)
        losses.append(-logits.gather(1, torch.tensor(example.response)[:, None]).double().sum().item())
    figures = cell_of(made["figure1"], system="full").figures
    assert figures["sentences"]["loss"] == pytest.approx(losses, rel=1e-4)
    original = cell_of(made["figure1"], system="original").figures
    assert abs(original["loss"] - figures["loss"]) > 1e-3
    assert figures["parameters"] == sum(p.numel() for p in lm.parameters())
    assert figures["forgetting"]["untouched_share"] is None
    assert figures["forgetting"]["original_loss"] == original["forgetting"]["loss"]
    for pair in texts[1]:
        ids = torch.tensor([tokenizer(pair.source)["input_ids"]])
        with torch.no_grad():
            logits = lm(ids).logits[0, :-1].log_softmax(-1)
        general += (-logits.gather(1, ids[0, 1:, None])).flatten().double().tolist()
    assert figures["forgetting"]["loss"] == pytest.approx(np.mean(general), rel=1e-4)
    (stage,) = stored(places, "full")
    assert not list(stage.folder.rglob("*.safetensors"))  # a whole model is not kept


def test_random_rows_are_three_draws_of_as_many_rows(made, places, narrow_model, texts):
    reachable = {t for e in encode(AutoTokenizer.from_pretrained(narrow_model), texts[0])[0] for t in e.sequence}
    table = made["figure1"].sections()[0]
    for name, rule in itertools.product(("p < 0.05", "p < 0.25", "at most 4"), ("random", "random-reachable")):
        cells = cells_of(made["figure1"], system=rule, set=name)
        assert [cell.about["seed"] for cell in cells] == [0, 1, 2]
        number = cell_of(made["figure1"], system="partial", set=name).figures["rows"]
        assert {cell.figures["rows"] for cell in cells} == {number}
        accuracies, row = [cell.figures["accuracy"] for cell in cells], row_in(table, rule, name)
        assert row["accuracy"] == pytest.approx(np.mean(accuracies))
        assert row["over seeds or draws"] == (min(accuracies), max(accuracies))
        assert row["number of rows"] == number
    draws = [ks_lottery.Tickets.open(s.folder / "rows.json") for s in stored(places, "rows", rule="random-reachable")]
    assert all(set(tickets.rows.tolist()) <= reachable for tickets in draws)
    assert len({tuple(tickets.ids.tolist()) for tickets in draws}) == len(draws)


def test_frequency_tuning_counts_the_target_side(made, places, loaded, narrow_model, texts, tuned):
    tokenizer = AutoTokenizer.from_pretrained(narrow_model)
    targets = [pair.target for pair in texts[0]]
    counts = Counter(t for text in targets for t in tokenizer(text, add_special_tokens=False)["input_ids"])
    number = len(ks_lottery.select(ks_lottery.scan(loaded.checkpoint, tuned), alpha=0.05))
    most = {count for _, count in counts.most_common(number)}
    small = ks_lottery.tune(
        loaded, texts[0], method="frequency", size=number, target_text=targets, **RATE
    )  # fmt: skip
    assert {counts[int(row)] for row in small.ids} == most
    check_figures(cell_of(made["figure8"], system="frequency", set="p < 0.05"), loaded, texts[1], small, places)


def test_frozen_tickets_keep_their_values_and_all_others_are_trained(made, places, loaded, texts, tuned):
    tickets = ks_lottery.select(ks_lottery.scan(loaded.checkpoint, tuned), top_k=SIZE)
    rest = ks_lottery.tune(loaded, texts[0], method="frozen", tickets=tickets, **RATE)
    assert set(rest.ids.tolist()) == set(tuned.ids.tolist()) - set(tickets.rows.tolist())
    check_figures(cell_of(made["figure5"], system="frozen", set="at most 4"), loaded, texts[1], rest, places)


def test_adapters_of_table_2_have_their_parameters_and_figures(made, places, loaded, texts):
    for method, rate in (("lora", 1e-2), ("prefix", 1e-2)):
        adapter = ks_lottery.tune(loaded, texts[0], method=method, learning_rate=rate, epochs=1.0)
        cell = cell_of(made["table2"], system=method)
        assert cell.figures["parameters"] == adapter.parameters
        check_figures(cell, loaded, texts[1], adapter, places)


def test_what_a_machine_lacks_is_a_row_that_says_so_unless_the_cell_was_finished_elsewhere(
    made, places, tmp_path, monkeypatch
):
    table = made["table2"].sections()[0]
    assert [row[0] for row in table.rows] == [
        NAMES[name] for name in ("original", "full", "qlora", "lora", "prefix", "prompt", "embed", "partial")
    ]
    (row,) = (row for row in table.rows if row[0] == "QLoRA")
    assert list(row[1:-1]) == [f"needs {NEEDS}", *[None] * (len(row) - 3)]
    assert row[-1] == 33.5  # the paper's
    monkeypatch.setattr(score_recipes, "missing_quantization", lambda: NEEDS)
    prepared = prepare_recipe(options_of(places, "table2"))
    plan = plan_recipe(prepared)
    assert plan.cells == plan.finished == len(made["table2"].cells)
    assert plan.missing == []
    (place,) = (n for n, cell in enumerate(prepared.stored.recipe.cells) if cell.about["system"] == "qlora")
    lora = cell_of(made["table2"], system="lora")
    elsewhere = tmp_path / "cells"
    elsewhere.mkdir()
    for file in (places[0] / "cells").iterdir():
        (elsewhere / file.name).write_bytes(file.read_bytes())
    Cells(elsewhere).write(
        prepared.stored.cell_keys()[place], replace(lora, figures={**lora.figures, "accuracy": 0.75})
    )
    again = reproduce("table2", **{**places[1], "cells": str(elsewhere)})
    assert row_in(again.sections()[0], "qlora")["accuracy"] == 0.75
    assert "QLoRA is not here" not in " ".join(again.sections()[-1].sentences)


def test_the_papers_figures_stand_beside_ours(made):
    table = made["figure1"].sections()[0]
    shown = {tuple(row[:2]): row[-1] for row in table.rows}
    assert shown["embed tuning", None] == 36.1
    assert shown["partial tuning", "p < 0.05"] == 37.7
    assert shown["partial tuning", "at most 4"] is None
    assert shown["random rows", "p < 0.25"] == 0.1
    assert shown["random reachable rows", "p < 0.25"] is None
    best = next(s for s in made["figure8"].sections() if "best" in s.title)
    assert row_in(best, "embed")["paper, spBLEU"] == 36.1
    assert [row[-1] for row in best.rows[1:]] == [37.7, None, 37.7]


def test_the_best_number_is_that_of_the_highest_accuracy(made):
    best = next(s for s in made["figure8"].sections() if "best" in s.title)
    for system in ("partial", "transfer", "frequency"):
        cells = cells_of(made["figure8"], system=system)
        assert len(cells) == 5 + 1
        (row,) = (row for row in best.rows if row[0] == NAMES[system])
        assert row[3] == max(cell.figures["accuracy"] for cell in cells)
        assert cell_of(made["figure8"], system=system, set=row[1]).figures["accuracy"] == row[3]


def test_figures_show_the_means_of_the_cells(made):
    (accuracy, bleu) = made["figure1"].charts
    assert [chart.name for chart in made["figure1"].charts] == ["figure1", "figure1-bleu"]
    assert accuracy.y_title == "next-token accuracy"
    assert bleu.y_title == "BLEU"
    cells = cells_of(made["figure1"], system="random-reachable", set="p < 0.05")
    (series,) = (s for s in accuracy.series if s.name == "random reachable rows")
    place = series.x.index(cells[0].figures["rows"])
    accuracies = [cell.figures["accuracy"] for cell in cells]
    assert (series.y[place], series.low[place], series.high[place]) == (
        pytest.approx(np.mean(accuracies)), min(accuracies), max(accuracies),
    )  # fmt: skip
    assert dict(accuracy.levels)["embed tuning"] == cell_of(made["figure1"], system="embed").figures["accuracy"]
    frozen = made["figure5"].charts[0]
    assert [series.x for series in frozen.series] == [[4.0], [4.0]]
    assert made["table2"].charts == ()


def test_a_table_and_its_figure_have_the_same_cells(made, places):
    for table, figure in (("table1", "figure1"), ("table4", "figure8")):
        again = reproduce(table, **places[1])
        assert [c.figures for c in again.cells] == [c.figures for c in made[figure].cells]
        assert again.sections() == made[figure].sections()
        assert again.charts == ()


def test_the_command_writes_tables_and_figures_and_says_what_figures_need(made, places, tmp_path, capfd, monkeypatch):
    settings = places[1]
    words = [
        "reproduce", "figure1", "--scale", "smoke", "--model", *settings["model"], "--train", settings["train"], "--sizes",
        str(SIZE), "--spm", f"flores101={settings['spm']['flores101']}", "--store", settings["store"], "--cells",
        settings["cells"], "--dtype", "float32", "--device", "cpu",
    ]  # fmt: skip
    out = tmp_path / "out"
    with monkeypatch.context() as without:
        without.setattr(drawing.util, "find_spec", lambda name: None)
        assert main([*words, "--out", str(out)]) == 0
        assert "Figures need matplotlib: pip install 'ks-lottery[figures]'." in capfd.readouterr().out.replace(
            "\n", " "
        )
    tables = {
        "manifest.json", "figure1-1.csv", "figure1-2.csv", "figure1.md", "figure1.tex", "figure1.txt", "tables.json",
    }  # fmt: skip
    assert {file.name for file in out.iterdir()} == tables
    assert main([*words, "--out", str(out)]) == 0
    assert "matplotlib" not in capfd.readouterr().out
    figures = {f"figure1{part}.{ending}" for part in ("", "-bleu") for ending in ("svg", "pdf", "png")}
    assert {file.name for file in out.iterdir()} == tables | figures
    made["figure1"].save(tmp_path / "again")
    for name in figures | tables - {"manifest.json"}:
        assert (tmp_path / "again" / name).read_bytes() == (out / name).read_bytes()
    with (out / "figure1-1.csv").open() as file:
        rows = list(csv.DictReader(file))
    embed = next(row for row in rows if row["system"] == "embed tuning")
    assert float(embed["accuracy"]) == cell_of(made["figure1"], system="embed").figures["accuracy"]


@pytest.mark.parametrize("scale", ["smoke", "small"])
@pytest.mark.parametrize("recipe", sorted(TABLES))
def test_a_dry_run_of_every_recipe_counts_its_stages(places, recipe, scale, tmp_path):
    options = options_of(places, recipe, scale=scale, sizes=[], store=str(tmp_path / "s"), cells=None, pairs=["en-ca"])
    plan = plan_recipe(prepare_recipe(options))
    assert plan.finished == 0
    assert len(plan.missing) > 5
    assert plan.sections()


def test_two_stages_of_one_name_are_refused(places):
    study = prepare_recipe(options_of(places, "table1")).studies[0]
    parts = RecipeParts(scale=study.scale)
    stage = parts.known(rows_stage(study, "random", 3, 0))
    assert parts.known(rows_stage(study, "random", 3, 0)) is stage
    with pytest.raises(ValueError, match="two stages are called"):
        parts.known(replace(stage, settings={**stage.settings, "size": 4}))


def test_sets_without_a_row_give_rows_that_say_so(places, tied_model, tmp_path):
    """Rows so wide that no row has p below 0.75 after the smoke training."""
    settings = {**places[1], "model": [str(tied_model)], "cells": str(tmp_path / "cells")}
    for recipe, systems in (
        ("table1", ("random", "random-reachable", "partial", "transfer")),
        ("table4", ("frequency",)),
    ):
        found = reproduce(recipe, **settings)
        original = cell_of(found, system="original").figures
        for system in systems:
            for cell in cells_of(found, system=system, set="p < 0.05"):
                assert cell.figures["rows"] == 0
                assert cell.figures["sentences"] == original["sentences"]
            assert row_in(found.sections()[0], system, "p < 0.05")["number of rows"] == "none"
        said = found.sections()[-1].sentences
        assert any("no row has p < 0.05 with seed 0: what is made of this set is the original model" in s for s in said)
        assert not any("with partial tuning, p < 0.05" in s or "between partial tuning, p < 0.05" in s for s in said)
