"""The recipe `where` on a tiny model: its figures against direct calls, transformers and definitions; and what it says."""

from __future__ import annotations

import itertools
import json
from collections import Counter

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import ks_lottery
from ks_lottery import UserError, load_model, read_corpus, reproduce
from ks_lottery.checkpoint.attribution import Attribution
from ks_lottery.checkpoint.patch import RowPatch
from ks_lottery.cli.main import main
from ks_lottery.config.recipe_commands import ReproduceOptions
from ks_lottery.corpus.batches import encode
from ks_lottery.corpus.prompts import TEMPLATES
from ks_lottery.corpus.selection import hold_out, keep_useful
from ks_lottery.evaluation.gated_runs import COMBINATIONS
from ks_lottery.recipes.prepared_recipe import prepare_recipe
from ks_lottery.recipes.recipe_plan import plan_recipe
from ks_lottery.recipes.study import BATCH
from ks_lottery.recipes.where_tables import where_tables
from ks_lottery.store.cells import FinishedCell
from ks_lottery.store.files import read_json
from ks_lottery.store.objects import ObjectStore

pytestmark = pytest.mark.slow  # makes recipes on a tiny model: about a minute

SIZE = 4
ORDER = "Translate the following sentence from English to Catalan."


@pytest.fixture(scope="module")
def made(narrow_model, text_file, tmp_path_factory):
    """The recipe with two seeds, its store and its cells."""
    root = tmp_path_factory.mktemp("where")
    settings = {"scale": "smoke", "model": [str(narrow_model)], "train": str(text_file), "sizes": [SIZE], "seeds": 2}
    places = {"store": str(root / "store"), "cells": str(root / "cells"), "dtype": "float32", "device": "cpu"}
    return root, {**settings, **places}, reproduce("where", **settings, **places)


@pytest.fixture(scope="module")
def texts(text_file):
    train, test = hold_out(keep_useful(read_corpus(text_file, source_language="en", target_language="ca"))[0], 0.2)
    return train.head(64), test.head(24)


def cells_of(made, **about):
    return [c for c in made[2].cells if all(c.about[name] == value for name, value in about.items())]


def cell_of(made, **about):
    (cell,) = cells_of(made, **about)
    return cell


def stored(made, stage, **settings):
    stages, _ = ObjectStore(made[0] / "store").stages()
    return [
        s
        for s in stages
        if s.about["stage"] == stage and all(s.about["settings"].get(n) == v for n, v in settings.items())
    ]


def product(made, method, seed, template="alpaca", **rule):
    """Return the folder of a tuning."""
    tuned = stored(made, "tune", method=method, seed=seed, template=template)
    if rule:
        keys = {s.key for s in stored(made, "rows", **{"without": None, **rule})}
        tuned = [s for s in tuned if keys & set(s.sources)]
    (folder,) = (s.folder for s in tuned)
    return folder


def rows_of(made, **rule):
    return [
        [row["row"] for row in read_json(s.folder / "rows.json")["rows"]]
        for s in stored(made, "rows", **{"without": None, **rule})
    ]


def template_tokens(model, corpus):
    """Return the tokens of the rendered prompts that are not of the source alone, by the places of their characters."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokens = set()
    before = TEMPLATES["alpaca"].replace("{instruction}", ORDER).partition("{source}")[0]
    for pair in corpus:
        text = TEMPLATES["alpaca"].replace("{instruction}", ORDER).replace("{source}", pair.source)
        first, last = len(before), len(before) + len(pair.source)
        found = tokenizer(text, return_offsets_mapping=True)
        for token, (start, end) in zip(found["input_ids"], found["offset_mapping"], strict=True):
            if not first <= start <= end <= last:
                tokens.add(token)
    return tokens


def measured_by_transformers(model, corpus, patch, template="alpaca"):
    """Return losses and right answers a sentence, of the model with new rows on the input side alone."""
    lm, tokenizer = AutoModelForCausalLM.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    if patch is not None:
        rows = lm.get_input_embeddings().weight.detach().clone()
        rows[torch.from_numpy(patch.ids)] = patch.values
        lm.model.embed_tokens = torch.nn.Embedding.from_pretrained(rows)
    losses, correct = [], []
    for example in encode(tokenizer, corpus, template=template)[0]:
        with torch.no_grad():
            logits = lm(torch.tensor([example.sequence])).logits[0, len(example.prompt) - 1 : -1].log_softmax(-1)
        labels = torch.tensor(example.response)
        losses.append(-logits.gather(1, labels[:, None]).double().sum().item())
        correct.append(int((logits.argmax(-1) == labels).sum()))
    return losses, correct


def test_the_figures_of_a_where_cell_are_those_of_the_call(made, narrow_model, texts):
    loaded = load_model(narrow_model, dtype="float32", device="cpu")
    shared = {"by_sentence": True, "batch_size": BATCH, "template": "alpaca", "max_tokens": 512, "max_new_tokens": 8}
    for about, folder, more in (
        ({"system": "embed", "seed": 0}, product(made, "embed", 0), {"controls": True, "translate": 2}),
        ({"system": "embed", "seed": 1}, product(made, "embed", 1), {}),
        (
            {"system": "template", "seed": 1},
            product(made, "partial", 1, rule="template", size=SIZE),
            {},
        ),
    ):
        found = ks_lottery.where(loaded, texts[1], folder, **shared, **more).as_dict()
        del found["made_from"]
        assert cell_of(made, figure="where", **about).figures == json.loads(json.dumps(found))
    assert {c.about["system"] for c in cells_of(made, figure="where") if c.figures["controls"]} == {"embed", "ks"}
    assert {c.about["seed"] for c in cells_of(made, figure="where") if c.figures["translated"]} == {0}


def test_what_each_sentence_adds_is_what_transformers_answers(made, narrow_model, texts):
    added = cell_of(made, figure="where", system="embed", seed=1).figures["by_sentence"]
    for name, patch in (("nowhere", None), ("everywhere", RowPatch.open(product(made, "embed", 1)))):
        losses, correct = measured_by_transformers(narrow_model, texts[1], patch)
        assert added[name]["correct"] == correct
        assert added[name]["loss"] == pytest.approx(losses, rel=1e-4)
    for cell in cells_of(made, figure="where"):
        for effect in cell.figures["spans"]:
            sums = {what: sum(values) for what, values in cell.figures["by_sentence"][effect["name"]].items()}
            assert effect["accuracy"] == pytest.approx(sums["correct"] / sums["positions"])
            assert effect["loss"] == pytest.approx(sums["loss"] / sums["positions"])
    original = cell_of(made, system="original", measured_in="alpaca").figures["sentences"]
    assert original["correct"] == added["nowhere"]["correct"]  # the two ways to measure agree


def test_the_two_halves_are_embed_tuning(made, narrow_model, texts):
    template = template_tokens(narrow_model, texts[0])
    moved = [RowPatch.open(s.folder) for s in stored(made, "transfer")]
    for seed in range(2):
        whole = RowPatch.open(product(made, "embed", seed))
        halves = [p for p in moved if torch.equal(p.values, whole.values[torch.from_numpy(np.isin(whole.ids, p.ids))])]
        first, second = sorted(halves, key=lambda patch: not set(patch.ids.tolist()) <= template)
        assert set(first.ids.tolist()) == set(whole.ids.tolist()) & template
        assert set(second.ids.tolist()) == set(whole.ids.tolist()) - template
        assert len(first) + len(second) == len(whole)
        for half, system in ((first, "template rows"), (second, "all other rows")):
            cell = cell_of(made, system=system, seed=seed)
            assert cell.figures["rows"] == len(half)
            assert cell.figures["sentences"]["correct"] == measured_by_transformers(narrow_model, texts[1], half)[1]


def test_rows_outside_the_template_are_the_best_that_are_in_no_prompt(made, narrow_model, texts):
    template = template_tokens(narrow_model, texts[0])
    (outside,) = rows_of(made, rule="gradient-sum", without="template", max_tokens=512, template="alpaca")
    assert not set(outside) & template
    (single,) = (s for s in stored(made, "gradients") if s.about["settings"]["template"] == "alpaca")
    found = Attribution.open(single.folder)
    score = dict(zip(found.ids.tolist(), found.score("gradient-sum").tolist(), strict=True))
    assert outside == sorted(set(score) - template, key=lambda row: (-score[row], row))[:SIZE]
    patch = RowPatch.open(product(made, "partial", 0, rule="gradient-sum", without="template"))
    assert set(patch.ids.tolist()) == set(outside)


def test_mixed_products_are_trained_in_the_mix_and_measured_elsewhere(made, narrow_model, texts):
    cells = cells_of(made, trained_in="mixed", figure="accuracy")
    assert {(c.about["system"], c.about["measured_in"], c.about["seed"]) for c in cells} == set(
        itertools.product(["embed", "gradient-sum"], ["request", "alpaca"], range(2))
    )
    patch = RowPatch.open(product(made, "embed", 1, template="mixed"))
    own = RowPatch.open(product(made, "embed", 1))
    for trained, rows in (("mixed", patch), ("alpaca", own)):
        cell = cell_of(made, system="embed", trained_in=trained, measured_in="request", seed=1)
        losses, correct = measured_by_transformers(narrow_model, texts[1], rows, "request")
        assert cell.figures["sentences"]["correct"] == correct
        assert cell.figures["sentences"]["loss"] == pytest.approx(losses, rel=1e-4)
    original = cell_of(made, system="original", measured_in="request")
    assert original.figures["sentences"]["correct"] == measured_by_transformers(
        narrow_model, texts[1], None, "request"
    )[1]  # fmt: skip


def test_origins_are_counts_in_the_training_text(made, narrow_model, texts):
    template = template_tokens(narrow_model, texts[0])
    tokenizer = AutoTokenizer.from_pretrained(narrow_model)
    target = Counter(token for pair in texts[0] for token in [*tokenizer(pair.target)["input_ids"], 2])
    cells = cells_of(made, figure="origin", trained_in="alpaca")
    assert Counter(cell.about["system"] for cell in cells) == {
        "ks": 2, "gradient-sum": 1, "template": 1, "gradient-sum outside the template": 1,
    }  # fmt: skip
    for cell in cells:
        figures = cell.figures
        assert [count > 0 for count in figures["instruction"]] == [row in template for row in figures["rows"]]
        assert figures["target"] == [target[row] for row in figures["rows"]]
        assert len(figures["tokens"]) == SIZE
    sets = [set(cell.figures["rows"]) for cell in cells_of(made, figure="origin", system="ks")]
    table = next(s for s in made[2].sections() if "two seeds share" in (s.title or ""))
    row = next(row for row in table.rows if row[0] == f"{SIZE} rows by ks")
    assert row[-2:] == [len(sets[0] & sets[1]), len(sets[0] & sets[1]) / len(sets[0] | sets[1])]


def test_tables_have_the_means_over_seeds_and_shares_of_their_own_gain(made):
    table = made[2].sections()[0]
    assert [row[1] for row in table.rows] == list(COMBINATIONS) * 4
    for system, name in (("embed", "embed tuning"), ("ks", f"{SIZE} rows by ks")):
        cells = cells_of(made, figure="where", system=system)
        added = [cell.figures["by_sentence"] for cell in cells]
        positions = sum(added[0]["nowhere"]["positions"])
        gains = {
            span: sum(sum(a[span]["correct"]) - sum(a["nowhere"]["correct"]) for a in added) for span in COMBINATIONS
        }
        for row in [row for row in table.rows if row[0] == name and row[1] != "nowhere"]:
            assert row[4] == pytest.approx(gains[row[1]] / positions / 2)
            if row[6] is not None:
                assert row[6] == pytest.approx(gains[row[1]] / gains["everywhere"])
    costs = next(s for s in made[2].sections() if "computed tokens" in (s.title or ""))
    assert all(1 < row[3] <= 7 for row in costs.rows)


def test_a_lost_store_with_cells_computes_nothing_and_a_dry_run_says_so(made):
    root, settings, before = made
    again = reproduce("where", **{**settings, "store": str(root / "lost")})
    assert again.cells == before.cells
    assert again.sections() == before.sections()
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    done = plan_recipe(prepare_recipe(ReproduceOptions(recipe="where", **options)))
    assert done.finished == done.cells == len(before.cells)
    assert done.missing == []
    fresh = {**options, "seeds": 3, "cells": str(root / "none")}
    plan = plan_recipe(prepare_recipe(ReproduceOptions(recipe="where", **fresh)))
    located = [stage for stage in plan.missing if ": where " in stage.title]
    assert len(located) == 4
    assert all(stage.cost.tokens for stage in located)
    assert plan.seconds > 0


def test_the_command_writes_the_tables(made, tmp_path, capfd):
    root, settings, before = made
    words = [
        "reproduce", "where", "--scale", "smoke", "--model", *settings["model"], "--train", settings["train"], "--sizes",
        str(SIZE), "--seeds", "2", "--store", str(root / "lost"), "--cells", str(root / "cells"), "--dtype", "float32",
        "--device", "cpu",
    ]  # fmt: skip
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    assert before.sections()[-1].sentences[0] in capfd.readouterr().out.replace("\n", " ")
    filled = [section for section in before.sections() if section.rows]
    assert len(list((tmp_path / "out").glob("where-*.csv"))) == len(filled) == 7


@pytest.mark.parametrize("template", ["mixed", 'mixed:["plain", "labels"]', "request"])
def test_a_prompt_that_the_recipe_compares_with_is_refused(made, template):
    with pytest.raises(UserError, match="measures both in request: give another prompt"):
        reproduce("where", **made[1], template=template)


def where_cell(system, seed, right, *, size=None, positions=10):
    """Return a cell of `where` from the right answers of every sentence in each combination; unnamed ones are as nowhere."""
    every = {name: right.get(name, right["nowhere"]) for name in COMBINATIONS}
    spans = [
        {
            "name": name, "rows": 5, "accuracy": sum(c) / len(c) / positions, "loss": 2.0, "scores": None, "ended": None,
        }
        for name, c in every.items()
    ]  # fmt: skip
    added = {
        name: {"positions": [positions] * len(c), "correct": c, "loss": [2.0 * positions] * len(c)}
        for name, c in every.items()
    }
    about = {
        "model": "m", "pair": "en-ca", "figure": "where", "system": system, "size": size,
        "way": "partial" if size else "embed", "seed": seed, "trained_in": "alpaca", "measured_in": "alpaca",
    }  # fmt: skip
    figures = {
        "rows": 5, "spans": spans, "by_sentence": added, "controls": [], "translated": 0, "notes": [],
        "tokens": {"pass": 100, "spans": 350, "controls": 0},
    }  # fmt: skip
    return FinishedCell(recipe="where", about=about, figures=figures, conditions={})


def accuracy_cell(right, *, positions=10, seed=0, **about):
    added = {"positions": [positions] * len(right), "correct": right, "loss": [2.0 * positions] * len(right)}
    place = {
        "model": "m", "pair": "en-ca", "figure": "accuracy", "size": None, "seed": seed, "trained_in": "alpaca",
        "measured_in": "alpaca", **about,
    }  # fmt: skip
    figures = {"rows": 5, "accuracy": sum(right) / len(right) / positions, "loss": 2.0, "sentences": added}
    return FinishedCell(recipe="where", about=place, figures=figures, conditions={})


def original_cell(right, measured_in="alpaca"):
    return accuracy_cell(right, system="original", way=None, seed=None, trained_in=None, measured_in=measured_in)


def said_of(*cells):
    return " ".join(where_tables(cells, resamples=500)[-1].sentences)


def test_sentences_say_what_the_figures_show():
    base = [2] * 30
    embed = where_cell(
        "embed", 0, {"nowhere": base, "everywhere": [6] * 30, "instruction": [5] * 30, "source": [3] * 30}
    )
    halves = [
        accuracy_cell([5] * 30, system="template rows", way="transfer"),
        accuracy_cell([3] * 30, system="all other rows", way="transfer"),
    ]
    said = said_of(original_cell(base), embed, *halves)
    assert "Of the gain in accuracy of embed tuning, +0.4000 (+0.4000 to +0.4000), this share remains" in said
    assert "0.75 (0.75 to 0.75) in the instruction alone, 0.25 (0.25 to 0.25) in the source alone, 0.00" in said
    assert "accuracy is higher in the instruction alone than in the source alone: +0.2000" in said
    assert (
        "Template rows of embed tuning (5 rows) keep 0.75 (0.75 to 0.75) of embed tuning's gain; all other rows of embed "
        "tuning (5 rows) keep 0.25 (0.25 to 0.25)"
    ) in said
    assert (
        "Accuracy is higher with template rows of embed tuning than with all other rows of embed tuning: +0.2000"
        in said
    )
    assert "at most 3.50 times the tokens" in said
    assert "1 seed: a claim needs 5." in said
    swapped = said_of(
        original_cell(base),
        embed,
        accuracy_cell([3] * 30, system="template rows", way="transfer"),
        accuracy_cell([5] * 30, system="all other rows", way="transfer"),
    )
    assert "Accuracy is lower with template rows of embed tuning" in swapped


def test_nothing_is_said_to_be_more_where_the_paired_interval_contains_zero():
    draw = np.random.default_rng(0)
    base = [5] * 30
    noise = [int(n) for n in draw.integers(-2, 3, 30)]
    embed = where_cell("embed", 0, {"nowhere": base, "everywhere": [8] * 30, "instruction": [5 + n for n in noise]})
    halves = [
        accuracy_cell([6 + n for n in noise], system="template rows", way="transfer"),
        accuracy_cell([6] * 30, system="all other rows", way="transfer"),
    ]
    said = said_of(original_cell(base), embed, *halves)
    assert "No difference in accuracy is shown between template rows" in said
    assert "No difference is shown between the instruction alone and the source alone" in said
    assert "higher" not in said
    assert "lower" not in said
    flat = said_of(where_cell("embed", 0, {"nowhere": base, "everywhere": [5 + n for n in noise]}))
    assert (
        "too near 0 for shares of it. With its rows in one span it changes by +0.0000 (+0.0000 to +0.0000) in the"
        in flat
    )
    assert "share remains" not in flat


def test_seeds_are_part_of_the_interval():
    base = [2] * 30
    same = [where_cell("embed", seed, {"nowhere": base, "everywhere": [5] * 30}) for seed in range(5)]
    apart = [where_cell("embed", seed, {"nowhere": base, "everywhere": [2 + 3 * seed] * 30}) for seed in range(3)]
    assert "+0.3000 (+0.3000 to +0.3000)" in said_of(*same)
    assert "a claim needs" not in said_of(*same)
    assert "+0.3000 (+0.0000 to +0.6000)" in said_of(*apart)


def test_a_mix_is_compared_with_one_prompt_under_the_same_prompt():
    base = [2] * 30
    embed = where_cell("embed", 0, {"nowhere": base, "everywhere": [6] * 30})
    shown = {"system": "embed", "way": "embed", "measured_in": "request"}
    cells = [
        original_cell(base), original_cell([1] * 30, "request"), embed, accuracy_cell([3] * 30, **shown),
        accuracy_cell([4] * 30, **{**shown, "trained_in": "mixed"}),
    ]  # fmt: skip
    said = said_of(*cells)
    assert (
        "Measured in request, the accuracy of embed tuning less that of the original is +0.2000 (+0.2000 to +0.2000) when "
        "trained in alpaca and +0.3000 (+0.3000 to +0.3000) when trained in mixed. Accuracy is higher with training in mixed "
        "than with training in alpaca: +0.1000 (+0.1000 to +0.1000)."
    ) in said
    table = next(s for s in where_tables(cells, resamples=500) if "a mix" in (s.title or ""))
    assert [row[:3] for row in table.rows] == [
        ["the original model", None, "request"], ["embed tuning", "alpaca", "request"], ["embed tuning", "mixed", "request"],
    ]  # fmt: skip


def test_a_prompt_with_other_target_tokens_is_not_compared():
    base = [2] * 30
    embed = where_cell("embed", 0, {"nowhere": base, "everywhere": [6] * 30})
    other = accuracy_cell([5] * 30, positions=9, system="token-prompt", way="token-prompt", size=3)
    table = next(
        s for s in where_tables([original_cell(base), embed, other], resamples=100) if "template" in (s.title or "")
    )
    assert table.rows[-1][0] == "token prompt of 3 tokens"
    assert table.rows[-1][4:8] == [None] * 4
