"""The scale `paper` of the score tables has the settings that the paper states, and a cell for each of its figures."""

from __future__ import annotations

import pytest

from ks_lottery.config.recipe_commands import ReproduceOptions
from ks_lottery.recipes.paper import paper_table
from ks_lottery.recipes.prepared_recipe import TABLES, prepare_recipe
from ks_lottery.recipes.table_scale import PAPER_MODELS, paper_model, table_pairs, table_scale

EMBED_LIKE, PARTIAL_LIKE = ("full", "lora", "embed"), ("partial", "prefix")
"""Methods that section 4 of the paper trains at 2e-5 for 3 epochs, and at 1e-2 for 5."""


@pytest.mark.parametrize("recipe", sorted(TABLES))
def test_settings_are_those_that_the_paper_states(recipe):
    scale = table_scale(recipe, "paper")
    for methods, rate, epochs in ((EMBED_LIKE, 2e-5, 3), (PARTIAL_LIKE, 1e-2, 5)):
        for method in methods:
            training = scale.training_of(method)
            assert (training["learning_rate"], training["epochs"]) == (rate, epochs)
            assert training["batch_size"] * training["gradient_accumulation"] == 128
            assert (training["warmup_ratio"], training["max_grad_norm"], training["weight_decay"]) == (0.03, 1.0, 0.0)
    assert (scale.num_beams, scale.max_new_tokens) == (4, 256)
    assert (scale.max_train, scale.max_test, scale.translations) == (10_000, None, 1012)
    assert (scale.max_tokens, next(iter(scale.every_seed))) == (1024, 42)
    assert scale.models == ("huggyllama/llama-7b", "mistralai/Mistral-7B-v0.1")
    assert scale.translates(42)
    assert len(scale.every_draw) == 3  # table 1: three distinct seeds


def test_pairs_and_thresholds_are_the_papers():
    assert table_pairs("table1", "paper") == ("en-ro", "en-es", "en-de", "en-ca")
    assert table_pairs("table2", "paper") == ("en-ro", "en-es", "en-ca", "en-no")
    assert table_pairs("figure8", "paper") == ("en-ca", "en-da", "en-de", "en-es", "en-no")
    assert table_pairs("table8", "paper") == ("en-ca", "en-es", "en-ro", "en-da", "en-de", "en-pt")
    assert table_scale("table1", "paper").alphas == (0.05, 0.25)
    assert table_scale("table8", "paper").alphas == (0.05,)
    assert 0.05 in table_scale("table4", "paper").alphas
    assert table_scale("table8", "smoke").seeds == table_scale("table8", "paper").seeds == 2


@pytest.mark.parametrize("recipe", ["table1", "table2", "table4"])
def test_every_figure_of_the_paper_has_a_cell(recipe, narrow_model, text_file, tmp_path):
    """The recipe is built from a tiny model and one text under the languages' names; nothing is computed."""
    pairs = table_pairs(recipe, "paper")
    for pair in pairs:
        (tmp_path / f"{pair}.tsv").write_bytes(text_file.read_bytes())
    options = ReproduceOptions(
        recipe=recipe, scale="paper", model=(str(narrow_model),), train=str(tmp_path / "{source}-{target}.tsv"),
        store=str(tmp_path / "store"), device="cpu",
    )  # fmt: skip
    prepared = prepare_recipe(options)
    assert [study.pair for study in prepared.studies] == list(pairs)
    cells = {(c.about["pair"], c.about["system"], c.about["set"]) for c in prepared.stored.recipe.cells}
    systems = {(pair, system) for pair, system, _ in cells}
    for row in paper_table(recipe).rows:
        for pair in pairs:
            assert (pair, row["system"], row["set"]) in cells if "set" in row else (pair, row["system"]) in systems
    assert {cell.about["seed"] for cell in prepared.stored.recipe.cells} <= {None, 42, 43, 44}
    tuned = next(stage for stage in prepared.stored.recipe.stages if stage.settings.get("method") == "embed")
    assert (tuned.settings["learning_rate"], tuned.settings["epochs"], tuned.settings["max_tokens"]) == (2e-5, 3, 1024)
    measured = next(stage for stage in prepared.stored.recipe.stages if stage.kind == "measure")
    assert (measured.settings["num_beams"], measured.settings["max_new_tokens"]) == (4, 256)


def test_models_of_the_paper_are_found_by_name():
    assert {paper_model(hub_id): name for name, hub_id in PAPER_MODELS.items()} == {
        "LLaMA-7B": "LLaMA-7B", "Mistral-7B": "Mistral-7B",
    }  # fmt: skip


def test_the_models_of_the_paper_are_the_default_of_its_scale(tmp_path, monkeypatch, text_file):
    from ks_lottery.recipes import opened_studies

    asked = []

    def opened(name):
        asked.append(name)
        raise KeyboardInterrupt

    monkeypatch.setattr(opened_studies, "open_study_model", opened)
    options = ReproduceOptions(
        recipe="table1", scale="paper", train=str(text_file), pairs=("en-ca",), store=str(tmp_path), device="cpu"
    )
    with pytest.raises(KeyboardInterrupt):
        prepare_recipe(options)
    assert asked == ["huggyllama/llama-7b"]
